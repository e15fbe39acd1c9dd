"""Verifies an audit log from its published format alone, with nothing but Python: a second opinion for auditors.

    python audit_verifier.py EXPORT --key KEY [--checkpoint FILE]... [--proof FILE]

An export has one record a line (RFC 8785 JSON), each with the hash of the one before; the records are the leaves of an
RFC 6962 Merkle tree, whose root is signed with Ed25519 in checkpoints (C2SP signed notes). Exit code: 0 intact, 12 not,
2 the command itself was wrong.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

NAME, KEY_TYPE, ORIGIN = "exai-files-audit", b"exai-files-audit\n\x01", "exai-files/audit/"
HOUR, LISTED = 3_600_000_000, 20
B64, END = "[A-Za-z0-9+/]", "[AEIMQUYcgkosw048]="  # base64 whose unused bits are zero ends so
KEY = re.compile(rf"{NAME}\+([0-9a-f]{{8}})\+({B64}{{44}})")
NOTE = re.compile(rf"^(({ORIGIN}.+)\n(0|[1-9][0-9]{{0,15}})\n({B64}{{42}}{END})\n)\n((?:— \S+ {B64}+=*$\n?)+)", re.M)
SIGNATURE = re.compile(rf"^— {NAME} ({B64}{{90}}{END})$", re.M)
Point = tuple[int, int, int, int]
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT_OF_MINUS_1 = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind, the first record it concerns (its place in the export, from 0), a sentence."""

    kind: str  # record, begin, seq, prev, note, signature, origin, cut, root, proof; a "warning" breaks no log
    seq: int
    text: str


@dataclass(frozen=True)
class Report:
    """What was verified: the number of records, the root over them all (64 hex), the number of checkpoints given."""

    records: int
    root: str
    checkpoints: int
    findings: tuple[Finding, ...]  # in the order of `seq`
    signed: int = 0  # the first so many records are those of the largest checkpoint that matches

    @property
    def is_intact(self) -> bool:
        return all(finding.kind == "warning" for finding in self.findings)


def _add(a: Point, b: Point) -> Point:
    """The sum of two points in extended coordinates (RFC 8032, 5.1.4); the formula is complete, so it doubles too."""
    m, n = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    c, d = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, d - c, d + c, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def _point(raw: bytes) -> Point:
    """The point that 32 bytes encode (RFC 8032, 5.1.3); ValueError for none, or not in the one canonical way."""
    sign, y = divmod(int.from_bytes(raw, "little"), 2**255)
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if v * x * x % P == u else x * ROOT_OF_MINUS_1 % P
    if len(raw) != 32 or y >= P or v * x * x % P != u or (x == 0 and sign):
        raise ValueError("not an Ed25519 point")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def ed25519_is_valid(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the 64-byte signature is by the 32-byte key (RFC 8032, without the cofactor); ValueError for no key."""
    x, y, _, t = _point(public)
    minus_key, base = (P - x, y, 1, P - t), _point(b"\x58" + b"\x66" * 31)
    if len(signature) != 64 or (s := int.from_bytes(signature[32:], "little")) >= L:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    total, sums = (0, 1, 1, 0), ((0, 1, 1, 0), base, minus_key, _add(base, minus_key))
    for bit in range(252, -1, -1):
        total = _add(_add(total, total), sums[(s >> bit & 1) | (h >> bit & 1) << 1])
    x, y = (coordinate * pow(total[2], -1, P) % P for coordinate in total[:2])
    # Encoding the sum, not decoding R, is what refuses an R that is not canonical.
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def parse_key(text: str) -> bytes:
    """The 32-byte public key in `exai-files-audit+<8 hex>+<base64>`; ValueError if the text is not one."""
    match = KEY.fullmatch(text.strip())
    raw = base64.b64decode(match[2]) if match else b""
    if not match or raw[0] != 1 or match[1] != _hash(KEY_TYPE, raw[1:])[:4].hex() or not _point(raw[1:]):
        raise ValueError("not a key of the form exai-files-audit+<8 hex>+<base64>, or one that was mistyped")
    return raw[1:]


def _int(text: str) -> int:
    if len(text) > 17 or not text.removeprefix("-").isdigit() or abs(int(text)) >= 2**53:
        raise ValueError("a number is not an integer below 2^53")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 8785 orders by UTF-16 code units, where U+10000 comes before U+FFFF.
    keys = [key.encode("utf-16-be", "surrogatepass") for key, _ in pairs]
    if keys != sorted(set(keys)):
        raise ValueError("a key is there twice, or keys are not sorted")
    return dict(pairs)


def parse_record(raw: bytes) -> dict[str, Any]:
    """The record in the bytes of a line without its newline; ValueError if they are not one, or not canonical."""
    try:
        text = raw.decode("utf-8")
        record = json.loads(text, object_pairs_hook=_object, parse_int=_int, parse_float=_int, parse_constant=_int)
        if json.dumps(record, ensure_ascii=False, separators=(",", ":")) != text:
            raise ValueError("white space or characters are written in another way")
    except (RecursionError, ValueError) as error:
        raise ValueError(f"is not canonical JSON: {error}") from None
    if not isinstance(record, dict) or [type(record.get(key)) for key in ("seq", "time", "action")] != [int, int, str]:
        raise ValueError("is not an object with integers `seq` and `time` and a text `action`")
    return record


@dataclass
class _Log:
    """What is kept of the records so far: what the next one must follow, the tree over them all, what was found."""

    key: bytes
    found: list[Finding] = field(default_factory=list)
    notes: list[tuple[int, str, bytes]] = field(default_factory=list)  # number of records, origin, root
    stack: list[bytes] = field(default_factory=list)  # of full subtrees' roots, one for each set bit of `size`
    size: int = 0
    leaf: bytes = bytes(32)
    seq: int = -1
    time: int = -(2**53)
    origin: str | None = None

    def add(self, kind: str, seq: int, text: str) -> None:
        """Keeps the first `LISTED` findings of each kind: memory must not grow with the damage."""
        before = sum(finding.kind == kind for finding in self.found)
        if before < LISTED:
            self.found.append(Finding(kind, seq, text + " (later ones are not listed)" * (before == LISTED - 1)))

    def read_notes(self, text: str) -> int:
        """Keeps the notes of a checkpoint file that the key signed, finds fault with the others; how many there are."""
        notes = NOTE.findall(text)
        if not notes or NOTE.sub("", text).strip("\n"):
            self.add("note", 0, "a checkpoint is not a signed note of three lines")
        for signed, origin, size, root, signatures in notes:
            blobs = [base64.b64decode(encoded) for encoded in SIGNATURE.findall(signatures)]
            ours = [blob[4:] for blob in blobs if blob[:4] == _hash(KEY_TYPE, self.key)[:4]]
            # Signatures by others are passed over, a false one by the key spoils the note.
            if ours and all(ed25519_is_valid(self.key, signed.encode(), signature) for signature in ours):
                self.notes.append((int(size), origin, base64.b64decode(root)))
            else:
                self.add("signature", 0, f"the checkpoint of {size} records is not signed by the key")
        return len(notes)

    def push(self, line: bytes) -> None:
        """Checks the next line of the export and takes it into the tree, whatever it is."""
        raw, at = line.removesuffix(b"\n"), self.size
        if raw == line:
            self.add("record", at, "the last line has no newline: the export was cut off inside it")
        try:
            self.check(parse_record(raw))
        except ValueError as error:
            self.add("record", at, f"the record {error}")
        self.leaf = node = _hash(b"\x00", raw)
        while at & 1:
            node, at = _hash(b"\x01", self.stack.pop(), node), at >> 1
        self.stack.append(node)
        self.size += 1

    def check(self, record: dict[str, Any]) -> None:
        """Checks a record against the one before it."""
        at, seq, back = self.size, record["seq"], self.time - record["time"]
        # Behind a gap every number is off by the same: only where that changes is there something to say.
        is_in_order = seq in (at, self.seq + 1)
        if not is_in_order:
            self.add("seq", at, f"a record numbered {seq} is where record {at} should be")
        if record.get("prev") != self.leaf.hex():
            self.add("prev", at - 1 if is_in_order and at else at, f"record {at} does not follow the one before it")
        if back > HOUR:
            self.add("warning", at, f"its time is {back // 60_000_000} minutes before that of the record before it")
        if at == 0 and record["action"] == "audit.begin" and re.fullmatch("[0-9a-f]{32}", str(record.get("log"))):
            self.origin = f"{ORIGIN}{record['log']}"
        self.seq, self.time = seq, record["time"]

    def root(self) -> bytes:
        return functools.reduce(lambda right, left: _hash(b"\x01", left, right), reversed(self.stack or [_hash()]))

    def report(self, checkpoints: int, roots: dict[int, bytes]) -> Report:
        """Compares the notes that were read with the roots at their sizes, and sums up."""
        signed = 0
        if self.origin is None:
            self.add("begin", 0, "there is no first record that is the beginning of a log")
        for size, origin, root in sorted(self.notes):
            if self.origin not in (None, origin):
                self.add("origin", 0, f"the checkpoint of {size} records is that of another log, {origin!a:.60}")
            elif size > self.size:
                self.add("cut", self.size, f"{size} records were signed, the export ends after {self.size}")
            elif root != roots[size]:
                self.add("root", signed, f"records up to {size - 1} are not those that were signed")
            else:
                signed = size
        findings = tuple(sorted(self.found, key=lambda finding: finding.seq))
        return Report(self.size, self.root().hex(), checkpoints, findings, signed)


def verify(lines: Iterable[bytes], key: bytes, checkpoints: Iterable[str] = ()) -> Report:
    """Verifies an export in one pass, whose lines are bytes with their newlines; what they hold never raises an error.

    Checkpoints are texts of files of one or more notes each, which the key (32 bytes) must have signed.
    """
    log = _Log(key)
    count = sum([log.read_notes(text) for text in checkpoints])
    sizes, roots = {size for size, _, _ in log.notes}, {0: log.root()}
    for line in lines:
        log.push(line)
        if log.size in sizes:
            roots[log.size] = log.root()
    return log.report(count, roots)


def _path_root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that an audit path leads to (RFC 6962, 2.1.1); ValueError if there is none for that index and size."""
    if not 0 <= index < size or (size == 1) == bool(path):
        raise ValueError("the path does not fit the index and the size")
    if size == 1:
        return leaf
    left = 1 << (size - 1).bit_length() - 1
    if index < left:
        return _hash(b"\x01", _path_root(leaf, index, left, path[:-1]), path[-1])
    return _hash(b"\x01", path[-1], _path_root(leaf, index - left, size - left, path[:-1]))


def verify_proof(text: str, key: bytes) -> tuple[Finding, ...]:
    """Verifies that the record of a proof file (its JSON text) is in the log that its checkpoint signs; () if so."""
    log, index = _Log(key), 0
    try:
        proof = json.loads(text)
        index, size, raw = proof["index"], proof["size"], proof["record"].encode()
        path = [bytes.fromhex(step) for step in proof["path"] if re.fullmatch("[0-9a-f]{64}", step)]
        log.read_notes(proof["checkpoint"])
        if type(index) is not int or parse_record(raw)["seq"] != index:
            raise ValueError("the record is not the one that the proof is said to be of")
        if type(size) is not int or [note[0] for note in log.notes] != [size]:
            raise ValueError("the checkpoint is not one of that size that the key signed")
        root = _path_root(_hash(b"\x00", raw), index, size, path)
        if len(path) != len(proof["path"]) or root != log.notes[0][2]:
            raise ValueError("the record is not in the log that was signed")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        log.add("proof", index if type(index) is int else 0, f"not a proof: {error!s:.200}")
    return tuple(log.found)


def main(arguments: list[str] | None = None) -> int:
    """Verifies what the command line names and prints one line for each finding and a summary; the exit code."""
    parser = argparse.ArgumentParser(description="Verifies an export of an audit log.")
    parser.add_argument("export", metavar="EXPORT", type=Path, help="one record a line")
    parser.add_argument("--key", required=True, help="the log's public key, or the name of a file with it")
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, action="append", default=[], help="signed notes")
    parser.add_argument("--proof", metavar="FILE", type=Path, help="that one record is in the log")
    asked = parser.parse_args(arguments)
    try:
        key = parse_key(asked.key if asked.key.startswith(f"{NAME}+") else Path(asked.key).read_text("utf-8"))
        checkpoints = [path.read_bytes().decode("utf-8", "replace") for path in asked.checkpoint]
        proofs = [path.read_bytes().decode("utf-8", "replace") for path in [asked.proof] if path]
        findings = [finding for proof in proofs for finding in verify_proof(proof, key)]
        # A proof that holds brings a checkpoint that was kept elsewhere: it is this export's only if that fits.
        checkpoints += [json.loads(proof)["checkpoint"] for proof in proofs if not findings]
        with asked.export.open("rb") as lines:
            report = verify(lines, key, checkpoints)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    report = replace(report, findings=(*report.findings, *findings))
    for finding in report.findings:
        print(f"{finding.kind}: record {finding.seq}: {finding.text}")
    verdict = "intact" if report.is_intact else "NOT INTACT"
    print(f"{verdict}: {report.records} records, root {report.root}, {report.checkpoints} checkpoints")
    if report.checkpoints:
        print(f"They cover {report.signed} records: later ones cut off or rewritten cannot be seen.")
    else:
        print("Cutting the tail off or rewriting everything cannot be seen without a checkpoint kept elsewhere.")
    return 0 if report.is_intact else 12


if __name__ == "__main__":
    sys.exit(main())
