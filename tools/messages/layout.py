"""Plans the bytes of a struct over a band of versions.

Consecutive fields of fixed size become one *run*, packed or unpacked by a single precompiled ``struct.Struct``; the
length prefix of the field behind them and the count of tagged fields ride along as its last member. A field of
variable size that is present only in a part of the band is a step of its own.
"""

from dataclasses import dataclass, field

from messages.schema import NEVER, Field, Message, StructSpec, Versions

FIXED = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
ALL = Versions(0, NEVER)
SIZES = {"?": 1, "b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "d": 8, "16s": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The versions one generated function serves: either all flexible or all classic."""

    versions: Versions
    flexible: bool

    def compact(self, field: Field) -> bool:
        return self.flexible and not field.always_classic

    def condition(self, present: Versions) -> str:
        """The Python test for ``present`` within this band; empty where it always holds."""
        low, high = self.versions.lowest, self.versions.highest
        if present.lowest <= low and present.highest >= high:
            return ""
        if present.lowest <= low:
            return f"version <= {present.highest}" if present.highest > low else f"version == {low}"
        if present.highest >= high:
            return f"version >= {present.lowest}" if present.lowest < high else f"version == {high}"
        if present.lowest == present.highest:
            return f"version == {present.lowest}"
        return f"{present.lowest} <= version <= {present.highest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Atom:
    """A piece of fixed size: a field's value, a field's length prefix, or the count of tagged fields."""

    code: str
    present: Versions
    value_of: Field | None = None
    length_of: Field | None = None


@dataclass(slots=True, kw_only=True)
class Step:
    """A run of atoms, then the content of ``payload``. ``condition`` guards all of it."""

    atoms: list[Atom] = field(default_factory=list)
    payload: Field | None = None
    condition: str = ""
    present: Versions = ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    steps: list[Step]
    tagged: list[Field]
    absent: list[Field]
    """Fields that no version of the band carries."""


def plan(spec: StructSpec, band: Band) -> Plan:
    steps = [Step()]
    tagged, absent = [], []
    for member in spec.fields:
        present = member.regular & band.versions
        if member.tagged & band.versions and band.flexible:
            tagged.append(member)
        elif not present:
            absent.append(member)
        if present:
            _add(steps, member, present, band)
    if band.flexible:
        steps[-1].atoms.append(Atom(code="B", present=band.versions))
    return Plan(
        steps=[step for step in steps if step.atoms or step.payload],
        tagged=sorted(tagged, key=lambda member: member.tag),
        absent=absent,
    )


def _add(steps: list[Step], member: Field, present: Versions, band: Band) -> None:
    if member.type in FIXED:
        steps[-1].atoms.append(Atom(code=FIXED[member.type], present=present, value_of=member))
        return
    condition = band.condition(present)
    if condition:
        steps.append(Step(condition=condition, present=present))
    step = steps[-1]
    code = length_code(member, band)
    if code:
        step.atoms.append(Atom(code=code, present=present, length_of=member))
    step.payload = member
    steps.append(Step())


def single(member: Field, band: Band) -> Step:
    """The step of a tagged field, which stands alone. A nullable struct has a varint 0 or 1 before it here."""
    if member.type in FIXED:
        return Step(atoms=[Atom(code=FIXED[member.type], present=band.versions, value_of=member)])
    code = "B" if length_code(member, band) else ""
    atoms = [Atom(code=code, present=band.versions, length_of=member)] if code else []
    return Step(atoms=atoms, payload=member)


def length_code(member: Field, band: Band) -> str:
    if member.element is None and member.struct is not None:
        return "b" if member.nullable & band.versions else ""
    if band.compact(member):
        return "B"
    return "h" if member.type == "string" else "i"


def cuts(atoms: list[Atom], versions: Versions) -> list[Versions]:
    """Splits ``versions``, newest first, wherever the set of present atoms changes."""
    edges = {versions.lowest}
    for atom in atoms:
        edges.add(max(atom.present.lowest, versions.lowest))
        if atom.present.highest < versions.highest:
            edges.add(atom.present.highest + 1)
    ordered = sorted(edges)
    ends = [edge - 1 for edge in ordered[1:]] + [versions.highest]
    return [Versions(low, high) for low, high in zip(ordered, ends, strict=True)][::-1]


def bands(message: Message) -> list[Band]:
    """The classic and the flexible band of a message, where it has them; flexible first."""
    flexible = message.valid & Versions(message.flexible_from, NEVER)
    classic = message.valid & Versions(0, message.flexible_from - 1)
    found = [Band(versions=flexible, flexible=True), Band(versions=classic, flexible=False)]
    return [band for band in found if band.versions]


def reach(message: Message, band: Band) -> dict[str, Versions]:
    """For each struct used within the band, the versions it is used in (their hull)."""
    reached: dict[str, Versions] = {}

    def visit(spec: StructSpec, versions: Versions) -> None:
        for member in spec.fields:
            inner = member.versions & versions
            if member.struct is not None and inner:
                reached[member.struct] = reached.get(member.struct, Versions(1, 0)).hull(inner)
                visit(message.structs[member.struct], inner)

    visit(message.body, band.versions)
    return reached


def holds_records(message: Message, spec: StructSpec) -> bool:
    return any(
        member.type == "records" or (member.struct and holds_records(message, message.structs[member.struct]))
        for member in spec.fields
    )


def least_size(message: Message, spec: StructSpec, band: Band) -> int:
    """The fewest bytes an instance takes in any version of the band."""
    versions = range(band.versions.lowest, band.versions.highest + 1)
    return min(_least_size_at(message, spec, band.flexible, version) for version in versions)


def _least_size_at(message: Message, spec: StructSpec, flexible: bool, version: int) -> int:
    size = 1 if flexible else 0
    band = Band(versions=Versions(version, version), flexible=flexible)
    for member in spec.fields:
        if version not in member.regular:
            continue
        if member.type in FIXED:
            size += SIZES[FIXED[member.type]]
        elif code := length_code(member, band):
            size += SIZES[code]
        else:
            assert member.struct is not None
            size += _least_size_at(message, message.structs[member.struct], flexible, version)
    return size
