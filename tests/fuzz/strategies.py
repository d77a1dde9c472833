"""Pictures with some bytes changed, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.targets import seeds, with_checksums

Edit = tuple[str, float, bytes]
"""What is done, where (0 to 1), and with which bytes."""

TELLING = (
    b"\0",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0",
    b"\xff\xd8",
    b"\xff\xd9",
    b"IDAT",
    b"acTL",
)


@st.composite
def changed_pictures(draw: st.DrawFn) -> bytes:
    """Draw a seed, a few edits of it, and whether a PNG's checksums are made right again."""
    data = draw(st.sampled_from(sorted(seeds().items())).map(lambda item: item[1]))
    content = st.binary(max_size=8) | st.sampled_from(TELLING)
    edits = st.tuples(st.sampled_from(("put", "insert", "cut", "end", "repeat")), st.floats(0, 1), content)
    for edit in draw(st.lists(edits, max_size=6)):
        data = edited(data, edit)
    return with_checksums(data) if draw(st.booleans()) else data


def edited(data: bytes, edit: Edit) -> bytes:
    """Return ``data`` with one change."""
    kind, place, content = edit
    at = int(place * len(data))
    if kind == "put":
        return data[:at] + content + data[at + len(content) :]
    if kind == "insert":
        return data[:at] + content + data[at:]
    if kind == "cut":
        return data[:at] + data[at + 1 + len(content) :]
    if kind == "end":
        return data[:at]
    return data[:at] + data[max(at - 64, 0) :]
