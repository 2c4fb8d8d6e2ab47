"""Writes the writing half of a message module."""

from messages.layout import Atom, Band, Step, cuts, holds_records, plan, single
from messages.schema import Field, Message, StructSpec, snake
from messages.source import Source, bare, differs, local

_ARRAYS = {"int8": "int8s", "int16": "int16s", "int64": "int64s", "uuid": "uuids"}


class WriteEmitter:
    """Emits the functions of one band of one message."""

    def __init__(self, source: Source, message: Message, suffix: str) -> None:
        self._source = source
        self._message = message
        self._suffix = suffix
        self._out = "out"
        self._present: Field | None = None
        """A field known not to be null where it is being written."""

    def one(self, spec: StructSpec, band: Band) -> None:
        """``_write_x(out, item, version)``; messages that carry records take the writer instead of its buffer."""
        source = self._source
        source.listed(
            f"def {self._name(spec.name, many=False)}(",
            [self._target(spec), f"item: {spec.name}", "version: int"],
            ") -> None:",
        )
        with source.block():
            self._bind(spec)
            self._body(spec, band)
        source.add()
        source.add()

    def many(self, spec: StructSpec, band: Band) -> None:
        source = self._source
        source.listed(
            f"def {self._name(spec.name, many=True)}(",
            [self._target(spec), f"items: list[{spec.name}]", "version: int"],
            ") -> None:",
        )
        with source.block():
            self._bind(spec)
            with source.block("for item in items:"):
                self._body(spec, band)
        source.add()
        source.add()

    def _target(self, spec: StructSpec) -> str:
        return "w: Writer" if holds_records(self._message, spec) else "out: bytearray"

    def _bind(self, spec: StructSpec) -> None:
        if holds_records(self._message, spec):
            self._source.add("out = w.out")

    def _name(self, struct: str, *, many: bool) -> str:
        return f"_write_{snake(struct)}{'_list' if many else ''}{self._suffix}"

    def _body(self, spec: StructSpec, band: Band) -> None:
        planned = plan(spec, band)
        before = len(self._source.lines)
        for member in planned.absent:
            self._refuse(member, spec)
        for step in planned.steps:
            self._step(step, band, spec)
        if band.flexible:
            self._tags(planned.tagged, band, spec)
        if len(self._source.lines) == before:
            self._source.add("pass")

    def _refuse(self, member: Field, spec: StructSpec) -> bool:
        """A version without the field takes only its default, unless the schema lets it drop silently."""
        if member.ignorable:
            return False
        source = self._source
        with source.block(f"if {bare(differs(member, _subject(member)))}:"):
            source.add(f'raise {source.codec("field_absent")}("{spec.name}.{member.python_name}", version)')
        return True

    def _step(self, step: Step, band: Band, spec: StructSpec) -> None:
        if not step.condition:
            self._guarded(step, band, spec)
            return
        assert step.payload is not None
        with self._source.block(f"if {step.condition}:"):
            self._guarded(step, Band(versions=step.present & band.versions, flexible=band.flexible), spec)
        if not step.payload.ignorable and not step.payload.tagged:
            test = bare(differs(step.payload, _subject(step.payload)))
            with self._source.block(f"elif {test}:"):
                name = f"{spec.name}.{step.payload.python_name}"
                self._source.add(f'raise {self._source.codec("field_absent")}("{name}", version)')

    def _guarded(self, step: Step, band: Band, spec: StructSpec) -> None:
        payload = step.payload
        if payload is not None:
            self._measure(payload, band)
        self._run(step.atoms, band, spec)
        if payload is not None:
            if step.atoms and step.atoms[-1].code == "B":
                self._long_length(payload, alone=len(step.atoms) == 1)
            self._content(payload, band)

    def _measure(self, member: Field, band: Band) -> None:
        """Binds ``n``, the length prefix as it is written, and ``raw`` or the field's local where a payload follows."""
        source = self._source
        name = local(member)
        text = member.type == "string"
        sure = member is self._present
        nullable = member.nullable & band.versions
        if member.element is None and member.struct is not None:
            if nullable:
                source.add(f"{name} = {_subject(member)}")
                null = 0 if self._out == "tagged" else -1
                source.add("n = 1" if sure else f"n = {null} if {name} is None else 1")
            return
        compact = band.compact(member)
        length = f"len({'raw' if text else name}){' + 1' if compact else ''}"
        if nullable and not sure:
            self._measure_nullable(member, band, length)
            return
        if text and (sure or not member.nullable):
            source.add(f"raw = {_subject(member)}.encode()")
        else:
            source.add(f"{name} = {_subject(member)}")
            if not sure and (member.nullable or member.type == "records"):
                with source.block(f"if {name} is None:"):
                    source.add(f'raise {source.codec("null_given")}("{member.name}", version)')
            if text:
                source.add(f"raw = {name}.encode()")
        source.add(f"n = {length}")

    def _measure_nullable(self, member: Field, band: Band, length: str) -> None:
        source = self._source
        name = local(member)
        source.add(f"{name} = {_subject(member)}")
        with source.block(f"if {name} is None:"):
            condition = band.condition(member.nullable & band.versions)
            if condition:
                with source.block(f"if not ({condition}):"):
                    source.add(f'raise {source.codec("null_given")}("{member.name}", version)')
            if member.type == "string":
                source.add('raw = b""')
            source.add("n = 0" if band.compact(member) else "n = -1")
        with source.block("else:"):
            if member.type == "string":
                source.add(f"raw = {name}.encode()")
            source.add(f"n = {length}")

    def _run(self, atoms: list[Atom], band: Band, spec: StructSpec) -> None:
        if not atoms:
            return
        parts = cuts(atoms, band.versions)
        if len(parts) == 1:
            if len(atoms) > 1 or atoms[0].length_of is None or atoms[0].code != "B":
                self._pack(atoms)
            return
        for index, versions in enumerate(parts):
            last = index == len(parts) - 1
            present = [atom for atom in atoms if versions.lowest in atom.present]
            missing = [atom for atom in atoms if atom not in present and _checked(atom)]
            if last and not present and not missing:
                continue
            head = "else:" if last else f"{'elif' if index else 'if'} version >= {versions.lowest}:"
            with self._source.block(head):
                self._cut(present, missing, spec)

    def _cut(self, present: list[Atom], missing: list[Atom], spec: StructSpec) -> None:
        for atom in missing:
            assert atom.value_of is not None
            self._refuse(atom.value_of, spec)
        if present:
            self._pack(present)
        elif not missing:
            self._source.add("pass")

    def _pack(self, atoms: list[Atom]) -> None:
        source = self._source
        if len(atoms) == 1 and atoms[0].code == "B":
            source.add(f"{self._out}.append({_argument(atoms[0])})")
            return
        function = source.pack([atom.code for atom in atoms], "pack")
        source.listed(f"{self._out} += {function}(", [_argument(atom) for atom in atoms], ")")

    def _long_length(self, member: Field, *, alone: bool) -> None:
        """A compact length below 128 is one byte and has been packed; a longer one replaces that byte."""
        source = self._source
        if member.element is None and member.struct is not None:
            source.add(f"{self._out}.append(n)")
            return
        kind = "string_length" if member.type == "string" else "length"
        if alone:
            with source.block("if n < 128:"):
                source.add(f"{self._out}.append(n)")
            with source.block("else:"):
                source.add(f"{source.codec(f'put_long_{kind}')}({self._out}, n)")
        else:
            with source.block("if n > 127:"):
                source.add(f"{source.codec(f'patch_long_{kind}')}({self._out}, n)")

    def _content(self, member: Field, band: Band) -> None:
        source = self._source
        out, name = self._out, local(member)
        if member.element is None and member.struct is not None:
            self._struct(member, band)
            return
        match member.type:
            case "string":
                source.add(f"{out} += raw")
                return
            case "bytes":
                line = f"{out} += {name}"
            case "records":
                line = f"{out} = w.records({name})"
            case _:
                self._array(member, band)
                return
        if member.nullable & band.versions:
            with source.block(f"if {name} is not None:"):
                source.add(line)
        else:
            source.add(line)

    def _struct(self, member: Field, band: Band) -> None:
        source = self._source
        call = self._name(member.type, many=False)
        spec, name = self._message.structs[member.type], local(member)
        assert not holds_records(self._message, spec), "no message has records in a single struct"
        if member.nullable & band.versions and member is not self._present:
            with source.block(f"if {name} is not None:"):
                source.add(f"{call}({self._out}, {local(member)}, version)")
        else:
            source.add(f"{call}({self._out}, {name if member.nullable else _subject(member)}, version)")

    def _array(self, member: Field, band: Band) -> None:
        source = self._source
        element = member.element
        assert element is not None
        name = local(member)
        with source.block(f"if {name}:"):
            if member.struct is not None:
                spec = self._message.structs[member.struct]
                target = "w" if holds_records(self._message, spec) else self._out
                source.listed(f"{self._name(member.struct, many=True)}(", [target, name, "version"], ")")
                if target == "w":
                    source.add("out = w.out")
            elif element == "int32":
                size = "n" if not band.compact(member) else "n - 1"
                table, many = source.codec("PACK_INT32S"), source.codec("pack_many_int32s")
                bound = "16" if not band.compact(member) else "17"
                with source.block(f"if n < {bound}:"):
                    source.add(f"{self._out} += {table}[{size}](*{name})")
                with source.block("else:"):
                    source.add(f"{self._out} += {many}({name})")
            elif element == "string":
                writer = source.codec("put_compact_strings" if band.compact(member) else "put_strings")
                source.add(f"{writer}({self._out}, {name})")
            else:
                source.add(f"{source.codec(f'put_{_ARRAYS[element]}')}({self._out}, {name})")

    def _tags(self, tagged: list[Field], band: Band, spec: StructSpec) -> None:
        source = self._source
        if not tagged:
            with source.block("if item.unknown_tagged_fields:"):
                source.add(f"{source.codec('put_tags')}({self._out}, list(item.unknown_tagged_fields))")
            return
        tests = [self._tag_test(member, band) for member in tagged]
        for member in tagged:
            self._refuse_tag(member, band, spec)
        source.any_of([*tests, "item.unknown_tagged_fields"])
        with source.block():
            source.add("fields = list(item.unknown_tagged_fields)")
            for member, test in zip(tagged, tests, strict=True):
                self._tag(member, bare(test), band)
            source.add(f"{source.codec('put_tags')}({self._out}, fields)")

    def _refuse_tag(self, member: Field, band: Band, spec: StructSpec) -> None:
        partial = band.condition(member.tagged & band.versions)
        if partial and not member.ignorable and not member.regular & band.versions:
            source = self._source
            with source.block(f"if version < {member.tagged.lowest} and {differs(member, _subject(member))}:"):
                source.add(f'raise {source.codec("field_absent")}("{spec.name}.{member.python_name}", version)')

    def _tag_test(self, member: Field, band: Band) -> str:
        condition = band.condition(member.tagged & band.versions)
        test = differs(member, _subject(member))
        return f"({condition} and {test})" if condition else test

    def _tag(self, member: Field, test: str, band: Band) -> None:
        source = self._source
        with source.block(f"if {test}:"):
            source.add("tagged = bytearray()")
            self._out = "tagged"
            self._present = member if member.default is None else None
            inner = Band(versions=member.tagged & band.versions, flexible=True)
            self._guarded(single(member, inner), inner, self._message.body)
            self._out, self._present = "out", None
            source.add(f"fields.append(({member.tag}, bytes(tagged)))")


def _subject(member: Field) -> str:
    return f"item.{member.python_name}"


def _checked(atom: Atom) -> bool:
    return atom.value_of is not None and not atom.value_of.ignorable


def _argument(atom: Atom) -> str:
    if atom.value_of is not None:
        return _subject(atom.value_of)
    if atom.length_of is None:
        return "0"
    return "n if n < 128 else 0" if atom.code == "B" else "n"
