"""Writes the reading half of a message module."""

from messages.layout import FIXED, Atom, Band, Plan, Step, cuts, holds_records, least_size, plan, single
from messages.schema import Field, Message, StructSpec, Versions, snake
from messages.source import Source, annotation, default_value, local, size_of

_ARRAYS = {"int8": "int8s", "int16": "int16s", "int64": "int64s", "uuid": "uuids"}


class ReadEmitter:
    """Emits the functions of one band of one message."""

    def __init__(self, source: Source, message: Message, suffix: str) -> None:
        self._source = source
        self._message = message
        self._suffix = suffix
        self._buffer = "Buffer" if holds_records(message, message.body) else "bytes"

    def one(self, spec: StructSpec, band: Band) -> None:
        """``_read_x(buf, pos, end, version) -> (X, position behind it)``"""
        self._source.listed(
            f"def {self._name(spec.name, many=False)}(",
            [f"buf: {self._buffer}", "pos: int", "end: int", "version: int"],
            f") -> tuple[{spec.name}, int]:",
        )
        with self._source.block():
            self._declare(spec, band)
            self._body(spec, band, "message = ", "")
            self._source.add("return message, pos")
        self._source.add()
        self._source.add()

    def many(self, spec: StructSpec, band: Band) -> None:
        """``_read_xs(buf, pos, end, version, n) -> (n times X, position behind them)``"""
        source = self._source
        size = least_size(self._message, spec, band)
        assert size > 0, spec.name
        source.listed(
            f"def {self._name(spec.name, many=True)}(",
            [f"buf: {self._buffer}", "pos: int", "end: int", "version: int", "n: int"],
            f") -> tuple[list[{spec.name}], int]:",
        )
        with source.block():
            with source.block(f"if n * {size} > end - pos:" if size > 1 else "if n > end - pos:"):
                source.add(f'raise {source.codec("count_refused")}("{spec.name}", n)')
            source.add(f"items: list[{spec.name}] = []")
            source.add("add = items.append")
            self._declare(spec, band)
            with source.block("for _ in range(n):"):
                self._body(spec, band, "add(", ")")
            source.add("return items, pos")
        source.add()
        source.add()

    def _name(self, struct: str, *, many: bool) -> str:
        return f"_read_{snake(struct)}{'_list' if many else ''}{self._suffix}"

    def _construct(self, head: str, name: str, arguments: list[str], tail: str) -> None:
        if self._source.fits(f"{head}{name}({', '.join(arguments)}){tail}") or not tail:
            self._source.listed(f"{head}{name}(", arguments, f"){tail}")
            return
        with self._source.block(head):
            self._source.listed(f"{name}(", arguments, ")")
        self._source.add(tail)

    def _declare(self, spec: StructSpec, band: Band) -> None:
        """Types the locals that are bound in more than one way; costs nothing at run time."""
        for member in spec.fields:
            shifting = (
                member.nullable
                or (member.element and member.struct)
                or member.tagged
                or band.condition(member.versions & band.versions)
            )
            if member.type not in FIXED and member.versions & band.versions and shifting:
                self._source.add(f"{local(member)}: {annotation(member)}")
        if band.flexible and not plan(spec, band).tagged:
            self._source.add("unknown: tuple[tuple[int, bytes], ...]")

    def _body(self, spec: StructSpec, band: Band, head: str, tail: str) -> None:
        """Read the fields into locals, then construct between ``head`` and ``tail``."""
        planned = plan(spec, band)
        for step in planned.steps:
            self._step(step, band)
        arguments = [f"{member.python_name}={local(member)}" for member in spec.fields if member not in planned.absent]
        if not band.flexible:
            self._construct(head, spec.name, arguments, tail)
        elif planned.tagged:
            self._known_tags(spec, planned, band, head, tail)
        else:
            self._unknown_tags()
            self._construct(head, spec.name, [*arguments, "unknown_tagged_fields=unknown"], tail)

    def _step(self, step: Step, band: Band) -> None:
        source = self._source
        if not step.condition:
            self._run(step.atoms, band)
            if step.payload is not None:
                self._payload(step.payload, band)
            return
        assert step.payload is not None
        with source.block(f"if {step.condition}:"):
            inner = Band(versions=step.present & band.versions, flexible=band.flexible)
            self._run(step.atoms, inner)
            self._payload(step.payload, inner)
        with source.block("else:"):
            source.add(f"{local(step.payload)} = {default_value(step.payload)}")

    def _run(self, atoms: list[Atom], band: Band) -> None:
        if not atoms:
            return
        parts = cuts(atoms, band.versions)
        if len(parts) == 1:
            self._unpack(atoms)
            return
        for index, versions in enumerate(parts):
            last = index == len(parts) - 1
            head = "else:" if last else f"{'elif' if index else 'if'} version >= {versions.lowest}:"
            with self._source.block(head):
                self._cut(atoms, versions)

    def _cut(self, atoms: list[Atom], versions: Versions) -> None:
        present = [atom for atom in atoms if versions.lowest in atom.present]
        if present:
            self._unpack(present)
        for atom in atoms:
            if atom not in present:
                assert atom.value_of is not None
                self._source.add(f"{local(atom.value_of)} = {default_value(atom.value_of)}")

    def _unpack(self, atoms: list[Atom]) -> None:
        source = self._source
        names = [_target(atom) for atom in atoms]
        codes = [atom.code for atom in atoms]
        if codes == ["B"]:
            source.add(f"{names[0]} = buf[pos]")
        else:
            function = source.pack(codes, "unpack_from")
            if len(names) == 1:
                source.add(f"({names[0]},) = {function}(buf, pos)")
            elif source.fits(line := f"{', '.join(names)} = {function}(buf, pos)"):
                source.add(line)
            else:
                with source.block("("):
                    for name in names:
                        source.add(f"{name},")
                source.add(f") = {function}(buf, pos)")
        source.add(f"pos += {size_of(atoms)}")
        for atom, name in zip(atoms, names, strict=True):
            if atom.code == "16s":
                source.add(f"{name} = {source.codec('new_uuid')}(Uuid, {name})")

    def _payload(self, member: Field, band: Band, *, tagged: bool = False) -> None:
        name = local(member)
        if member.element is None and member.struct is not None:
            self._struct(member, name, band, tagged=tagged)
        elif band.compact(member):
            self._compact(member, name, band)
        else:
            self._classic(member, name, band)

    def _struct(self, member: Field, name: str, band: Band, *, tagged: bool) -> None:
        source = self._source
        head = f"{name}, pos = {self._name(member.type, many=False)}("
        arguments = ["buf", "pos", "end", "version"]
        if not member.nullable & band.versions:
            source.listed(head, arguments, ")")
            return
        assert member.nullable.covers(member.versions & band.versions), member.name
        with source.block("if n == 0:" if tagged else "if n < 0:"):
            source.add(f"{name} = None")
        with source.block("else:"):
            source.listed(head, arguments, ")")

    def _compact(self, member: Field, name: str, band: Band) -> None:
        source = self._source
        if member.type == "[]int32" and not member.nullable & band.versions:
            self._compact_int32s(name)
            return
        length = "long_string_length" if member.type == "string" else "long_length"
        with source.block("if n > 127:"):
            source.add(f"n, pos = {source.codec(length)}(buf, pos - 1)")
        nullable = member.nullable & band.versions
        if nullable:
            with source.block("if n:"):
                self._content(member, name, "n - 1", "n - 1")
            self._null(member, name, band)
        else:
            with source.block("if n == 0:"):
                source.add(f'raise {source.codec("null_refused")}("{member.name}")')
            self._content(member, name, "n - 1", "n - 1")

    def _compact_int32s(self, name: str) -> None:
        """Short arrays take one table entry, chosen by the length as it is on the wire; that of null refuses."""
        source = self._source
        with source.block("if n < 16:"):
            source.add(f"{name} = list({source.codec('UNPACK_COMPACT_INT32S')}[n](buf, pos))")
            source.add("pos += 4 * n - 4")
        with source.block("else:"):
            source.add(f"{name}, pos = {source.codec('read_compact_int32s')}(buf, pos - 1, end)")

    def _classic(self, member: Field, name: str, band: Band) -> None:
        source = self._source
        refusal = f'raise {source.codec("length_refused")}("{member.name}", n)'
        if not member.nullable & band.versions:
            with source.block("if n < 0:"):
                source.add(refusal)
            self._content(member, name, "n", "n")
            return
        with source.block("if n >= 0:"):
            self._content(member, name, "n", "n")
        condition = band.condition(member.nullable & band.versions)
        with source.block(f"elif n == -1 and {condition}:" if condition else "elif n == -1:"):
            source.add(f"{name} = None")
        with source.block("else:"):
            source.add(refusal)

    def _null(self, member: Field, name: str, band: Band) -> None:
        source = self._source
        condition = band.condition(member.nullable & band.versions)
        with source.block(f"elif {condition}:" if condition else "else:"):
            source.add(f"{name} = None")
        if condition:
            with source.block("else:"):
                source.add(f'raise {source.codec("null_refused")}("{member.name}")')

    def _content(self, member: Field, name: str, n: str, count: str) -> None:
        source = self._source
        part = f"buf[pos : (pos := pos + {n})]"
        copied = self._buffer == "bytes"
        match member.type:
            case "string":
                source.add(f"{name} = {part}.decode()" if copied else f'{name} = str({part}, "utf-8")')
            case "bytes":
                source.add(f"{name} = {part}" if copied else f"{name} = bytes({part})")
            case "records":
                source.add(f"{name} = {part}")
            case _:
                self._array(member, name, count)

    def _array(self, member: Field, name: str, count: str) -> None:
        source = self._source
        element = member.element
        assert element is not None
        if member.struct is not None:
            with source.block("if n == 0:" if count == "n" else "if n == 1:"):
                source.add(f"{name} = []")
            with source.block("else:"):
                arguments = ["buf", "pos", "end", "version", count]
                source.listed(f"{name}, pos = {self._name(element, many=True)}(", arguments, ")")
        elif element == "int32":
            if count != "n":
                source.add("n -= 1")
            table, many = source.codec("UNPACK_INT32S"), source.codec("unpack_many_int32s")
            with source.block("if n < 16:"):
                source.add(f"{name} = list({table}[n](buf, pos))")
            with source.block("else:"):
                source.add(f"{name} = {many}(buf, pos, end, n)")
            source.add("pos += 4 * n")
        elif element == "string":
            reader = source.codec("read_strings" if count == "n" else "read_compact_strings")
            source.add(f"{name}, pos = {reader}(buf, pos, end, {count})")
        else:
            reader = source.codec(f"read_{_ARRAYS[element]}")
            source.add(f"{name}, pos = {reader}(buf, pos, end, {count})")

    def _unknown_tags(self) -> None:
        source = self._source
        with source.block("if tags:"):
            source.add(f"unknown, pos = {source.codec('read_tags')}(buf, pos - 1, end)")
        with source.block("else:"):
            source.add("unknown = ()")

    def _known_tags(self, spec: StructSpec, planned: Plan, band: Band, head: str, tail: str) -> None:
        """Two constructions: an instance without tagged fields, by far the most frequent, leaves them to defaults."""
        source = self._source
        only_tagged = [member for member in planned.tagged if not member.regular & band.versions]
        full = [member for member in spec.fields if member not in planned.absent]
        with source.block("if tags:"):
            for member in only_tagged:
                source.add(f"{local(member)} = {default_value(member)}")
            self._tag_loop(planned.tagged, band)
            arguments = [f"{member.python_name}={local(member)}" for member in full]
            self._construct(head, spec.name, [*arguments, "unknown_tagged_fields=tuple(fields)"], tail)
        with source.block("else:"):
            arguments = [f"{member.python_name}={local(member)}" for member in full if member not in only_tagged]
            self._construct(head, spec.name, arguments, tail)

    def _tag_loop(self, tagged: list[Field], band: Band) -> None:
        source = self._source
        source.add(f"tags, pos = {source.codec('read_tag_count')}(buf, pos - 1, end)")
        source.add("fields: list[tuple[int, bytes]] = []")
        source.add("tag = -1")
        with source.block("for _ in range(tags):"):
            source.add(f"tag, stop, pos = {source.codec('read_tag')}(buf, pos, end, tag)")
            for index, member in enumerate(tagged):
                self._tag(member, band, "elif" if index else "if")
            with source.block("else:"):
                content = "buf[pos:stop]" if self._buffer == "bytes" else "bytes(buf[pos:stop])"
                source.add(f"fields.append((tag, {content}))")
                source.add("pos = stop")

    def _tag(self, member: Field, band: Band, word: str) -> None:
        source = self._source
        condition = band.condition(member.tagged & band.versions)
        with source.block(f"{word} tag == {member.tag}{f' and {condition}' if condition else ''}:"):
            inner = Band(versions=member.tagged & band.versions, flexible=True)
            step = single(member, inner)
            self._run(step.atoms, inner)
            if step.payload is not None:
                self._payload(step.payload, inner, tagged=True)
            with source.block("if pos != stop:"):
                source.add(f'raise {source.codec("tag_refused")}("{member.name}")')


def _target(atom: Atom) -> str:
    if atom.value_of is not None:
        return local(atom.value_of)
    return "n" if atom.length_of is not None else "tags"
