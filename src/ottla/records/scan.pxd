# cython: language_level=3
# The types that make C of scan.py.
cimport cython
from libc.string cimport memcpy

cdef inline void copy(
    unsigned char* out, Py_ssize_t position, const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t size
) noexcept:
    memcpy(out + position, &data[start], size)

@cython.locals(shift=cython.int, byte="unsigned long long")
cdef (unsigned long long, Py_ssize_t) _long_varint(
    const unsigned char[::1] data, Py_ssize_t position, Py_ssize_t end, unsigned long long raw) except *

@cython.locals(raw="unsigned long long")
cdef (long long, Py_ssize_t) _varint(const unsigned char[::1] data, Py_ssize_t position, Py_ssize_t end) except *

cdef long _past_end(Py_ssize_t index) except -1

@cython.locals(
    data="const unsigned char[::1]", raw="unsigned long long", size="long long", time="long long", delta="long long",
    base_offset="long long", delta_max="long long", base_time="long long", append_time="long long",
    last_delta="long long", size_min="long long", time_max="long long", position=Py_ssize_t, start=Py_ssize_t, record_end=Py_ssize_t, end=Py_ssize_t,
    count=Py_ssize_t, index=Py_ssize_t,
    offsets="long long[::1]", times="long long[::1]", key_starts="int[::1]", key_sizes="int[::1]",
    value_starts="int[::1]", value_sizes="int[::1]", headers=dict)
cpdef tuple scan(object header, object body)

@cython.locals(
    data="const unsigned char[::1]", end=Py_ssize_t, position=Py_ssize_t, size="long long", time="long long", delta="long long",
    base_offset="long long", delta_max="long long", base_time="long long", append_time="long long",
    size_min="long long", time_max="long long", key_size="long long", key_start=Py_ssize_t, value_size="long long",
    value_start=Py_ssize_t, headers_start=Py_ssize_t)
cpdef tuple scan_one(object header, object body)

@cython.locals(
    data="const unsigned char*", size="Py_ssize_t", start=Py_ssize_t, index=Py_ssize_t, records=list,
    offsets="long long[::1]", times="long long[::1]", key_starts="int[::1]", key_sizes="int[::1]",
    value_starts="int[::1]", value_sizes="int[::1]", headers=dict)
cpdef list make_records(object make, tuple names, bytes body, tuple fields)

@cython.locals(
    data="const unsigned char[::1]", out="unsigned char*", joined=bytearray, size=Py_ssize_t, start=Py_ssize_t,
    index=Py_ssize_t, position=Py_ssize_t, room=Py_ssize_t, compiled=cython.bint, nulls=Py_ssize_t, starts_="int[::1]", sizes_="int[::1]", ends_="int[::1]")
cpdef tuple gather(object body, object starts, object sizes)

@cython.locals(
    data="const unsigned char*", size=Py_ssize_t, start=Py_ssize_t, index=Py_ssize_t, parts=list,
    starts_="int[::1]", sizes_="int[::1]")
cpdef list slices(bytes body, object starts, object sizes)
