"""The stand-alone verifier, against logs that are written, hashed and signed here in another way than it reads them."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "python" / "exai_files" / "audit_verifier.py"
LOG, OTHER_LOG = "0123456789abcdef" * 2, "fedcba9876543210" * 2
SECRET, OTHER_SECRET = bytes(range(32)), bytes(range(1, 33))
SIZE = 23
PLACES = (1, 7, 8, 11, 15, SIZE - 2)


def _loaded():
    spec = importlib.util.spec_from_file_location("audit_verifier", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


av = _loaded()


# Ed25519 after RFC 8032, in affine coordinates: slow, and nothing like what is tested.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)


def plus(a, b):
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return x, y


def times(scalar, point):
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = plus(total, point)
        point, scalar = plus(point, point), scalar >> 1
    return total


def encoded(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def expanded(secret):
    digest = hashlib.sha512(secret).digest()
    return (int.from_bytes(digest[:32], "little") & (2**254 - 8)) | 2**254, digest[32:]


def public_of(secret):
    return encoded(times(expanded(secret)[0], BASE))


def signed(secret, message):
    scalar, prefix = expanded(secret)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    first = encoded(times(r, BASE))
    h = int.from_bytes(hashlib.sha512(first + public_of(secret) + message).digest(), "little") % L
    return first + ((r + h * scalar) % L).to_bytes(32, "little")


# The format: records, tree, checkpoints, keys and proofs, straight from its description.


def line(record):
    return json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def leaf(raw):
    return hashlib.sha256(b"\0" + raw).digest()


def root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root(leaves[:split]) + root(leaves[split:])).digest()


def path(index, leaves):
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*path(index, leaves[:split]), root(leaves[split:])]
    return [*path(index - split, leaves[split:]), root(leaves[:split])]


def records(count=SIZE, log=LOG):
    yield {"seq": 0, "time": 1_700_000_000_000_000, "action": "audit.begin", "log": log}
    for seq in range(1, count):
        what = {"name": f'文件 {seq} \t"\\\x1f\x7f.pdf', "bytes": seq * 1000, "to": ["moonshot", None, True]}
        yield {"seq": seq, "time": 1_700_000_000_000_000 + seq * 1_000_000, "action": "file.upload", "what": what}


def chained(some, before=bytes(32)):
    """The lines of records, each with the hash of the one before."""
    lines = []
    for record in some:
        lines.append(line({**record, "prev": before.hex()}))
        before = leaf(lines[-1])
    return lines


def key_id(secret):
    return hashlib.sha256(b"exai-files-audit\n\1" + public_of(secret)).digest()[:4]


def key_text(secret=SECRET):
    encoded_key = base64.b64encode(b"\1" + public_of(secret)).decode()
    return f"exai-files-audit+{key_id(secret).hex()}+{encoded_key}"


def note(lines, size=None, log=LOG, secret=SECRET, signer="exai-files-audit"):
    size = len(lines) if size is None else size
    top = base64.b64encode(root([leaf(raw) for raw in lines[:size]])).decode()
    return note_of(f"exai-files/audit/{log}\n{size}\n{top}\n", secret, signer)


def note_of(text, secret=SECRET, signer="exai-files-audit"):
    signature = base64.b64encode(key_id(secret) + signed(secret, text.encode())).decode()
    return f"{text}\n— {signer} {signature}\n"


def proof(lines, index, checkpoint=None):
    steps = [step.hex() for step in path(index, [leaf(raw) for raw in lines])]
    return {
        "record": lines[index].decode(),
        "index": index,
        "size": len(lines),
        "path": steps,
        "checkpoint": checkpoint or note(lines),
    }


KEY = av.parse_key(key_text())
LINES = chained(records())
EARLY, LATE = note(LINES, 8), note(LINES)


def check(lines, *checkpoints, key=KEY):
    return av.verify([raw + b"\n" for raw in lines], key, checkpoints)


def kinds(report):
    return {finding.kind for finding in report.findings}


def first_in_chain(report):
    """The first record that a check of record against record names."""
    return min(found.seq for found in report.findings if found.kind in ("record", "seq", "prev", "begin"))


def edited(raw, **changes):
    return line({**json.loads(raw), **changes})


def rewritten(at, **changes):
    """The log as someone would leave it who edits a record and hashes all that follow anew."""
    some = [json.loads(raw) for raw in LINES]
    some[at].update(changes)
    return LINES[:at] + chained(some[at:], leaf(LINES[at - 1]) if at else bytes(32))


# What is intact.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 16, 17, SIZE])
def test_an_intact_log_passes_with_all_its_checkpoints(size):
    notes = [note(LINES, covered) for covered in {0, 1, size // 2, size}]
    report = check(LINES[:size], "".join(notes), "\n\n".join(notes))
    assert report == av.Report(size, root([leaf(raw) for raw in LINES[:size]]).hex(), 2 * len(notes), (), size)
    assert report.is_intact


def test_without_a_checkpoint_a_cut_log_looks_whole():
    assert check(LINES).is_intact
    assert check(LINES[:-1]).is_intact
    assert check(LINES[:-1]).signed == 0


def test_records_behind_the_last_checkpoint_are_not_covered():
    report = check(LINES, EARLY)
    assert (report.is_intact, report.signed, report.checkpoints) == (True, 8, 1)


def test_the_tree_is_that_of_certificate_transparency():
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    report = check([bytes.fromhex(text) for text in leaves])
    assert report.root == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert check([]).root == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_signatures_of_others_are_passed_over_but_a_false_one_of_the_key_is_not():
    by_witness = note(LINES, secret=OTHER_SECRET).split("\n\n")[1]
    named_otherwise = note(LINES, signer="witness.example").split("\n\n")[1]
    assert check(LINES, by_witness.join([LATE, ""]), LATE + named_otherwise).is_intact
    false = EARLY.split("\n\n")[1]
    assert kinds(check(LINES, LATE + false)) == {"signature"}
    assert kinds(check(LINES, note(LINES, signer="witness.example"))) == {"signature"}


# What was changed, and is found.

TAMPERED = {
    "byte edited": lambda at: ([*LINES[:at], LINES[at].replace(b".upload", b".uplead"), *LINES[at + 1:]], at),
    "white space added": lambda at: ([*LINES[:at], LINES[at].replace(b":", b": ", 1), *LINES[at + 1:]], at),
    "white space at the end": lambda at: ([*LINES[:at], LINES[at] + b"\r", *LINES[at + 1:]], at),
    "line broken": lambda at: ([*LINES[:at], LINES[at][:40], LINES[at][40:], *LINES[at + 1:]], at),
    "empty line": lambda at: ([*LINES[:at], b"", *LINES[at:]], at),
    "deleted": lambda at: (LINES[:at] + LINES[at + 1 :], at),
    "two deleted": lambda at: (LINES[: at - 1] + LINES[at + 1 :], at - 1),
    "inserted": lambda at: ([*LINES[:at], edited(LINES[at], action="x.y"), *LINES[at:]], at + 1),
    "swapped": lambda at: ([*LINES[:at], LINES[at + 1], LINES[at], *LINES[at + 2:]], at),
    "duplicated": lambda at: (LINES[: at + 1] + LINES[at:], at + 1),
    "time edited": lambda at: ([*LINES[:at], edited(LINES[at], time=1), *LINES[at + 1:]], at),
    "numbered anew": lambda at: (
        LINES[:at] + [edited(LINES[seq + 1], seq=seq) for seq in range(at, SIZE - 1)],
        at - 1,  # that the record in the gap is another can only be told from one of the two
    ),
    "one seq edited": lambda at: ([*LINES[:at], edited(LINES[at], seq=at + 5), *LINES[at + 1:]], at),
    "prev edited": lambda at: ([*LINES[:at], edited(LINES[at], prev="0" * 64), *LINES[at + 1:]], at - 1),
    "key order changed": lambda at: (
        [*LINES[:at], json.dumps(dict(reversed(json.loads(LINES[at]).items())), separators=(",", ":")).encode(), *LINES[at + 1:]],
        at,
    ),
    "key doubled": lambda at: (
        [*LINES[:at], LINES[at].replace(b'{"action":', b'{"action":"x","action":', 1), *LINES[at + 1:]],
        at,
    ),
}  # fmt: skip


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("tamper", TAMPERED)
def test_what_breaks_the_chain_is_found_and_its_first_record_named(tamper, at):
    lines, first = TAMPERED[tamper](at)
    report = check(lines, EARLY, LATE)
    assert not report.is_intact
    assert first_in_chain(report) == first
    assert not check(lines).is_intact
    assert report.signed == (8 if lines[:8] == LINES[:8] else 0)
    assert [found.seq for found in report.findings] == sorted(found.seq for found in report.findings)


@pytest.mark.parametrize("at", PLACES)
def test_one_gap_is_one_finding_and_so_is_a_second(at):
    lines = LINES[:at] + LINES[at + 1 :]
    assert [(found.kind, found.seq) for found in check(lines).findings] == [("seq", at), ("prev", at)]
    lines = chained(r for r in records() if r["seq"] not in (3, 5, 6))
    assert [(found.kind, found.seq) for found in check(lines).findings] == [("seq", 3), ("seq", 4)]
    lines = chained({**r, "seq": 99} if r["seq"] == at else r for r in records())
    assert [(found.kind, found.seq) for found in check(lines).findings] == [("seq", at)]


def test_a_note_may_have_lost_its_last_newline():
    assert check(LINES, LATE[:-1], f"\n{EARLY}\n\n{LATE}\n\n").is_intact
    assert check(LINES, EARLY + LATE[:-1]).signed == SIZE
    assert av.verify_proof(json.dumps({**PROOF, "checkpoint": LATE[:-1]}), KEY) == ()


def test_a_second_beginning_does_not_rename_the_log():
    assert check(rewritten(5, action="audit.begin", log=OTHER_LOG), note(LINES, 5)).is_intact


@pytest.mark.parametrize("at", [0, *PLACES, SIZE - 1])
def test_a_log_that_was_hashed_anew_after_an_edit_has_another_root(at):
    lines = rewritten(at, note="gone")
    assert check(lines).is_intact
    report = check(lines, EARLY, LATE)
    covered = 8 if at >= 8 else 0
    assert kinds(report) == {"root"}
    assert report.findings[-1].seq == covered == report.signed
    assert report.findings[-1].text == f"records up to {SIZE - 1} are not those that were signed"


@pytest.mark.parametrize("at", PLACES)
def test_a_fork_is_found_though_its_writer_signs_it(at):
    fork = LINES[:at] + chained(({**r, "fork": 1} for r in list(records())[at:]), leaf(LINES[at - 1]))
    assert check(fork, note(fork)).is_intact
    assert kinds(check(fork, note(fork), LATE)) == {"root"}


@pytest.mark.parametrize("left", [0, 1, 7, 8, SIZE - 1])
def test_a_tail_that_was_cut_off_is_found(left):
    report = check(LINES[:left], EARLY, LATE)
    assert "cut" in kinds(report)
    assert report.findings[-1].seq == left
    assert report.signed == (8 if left >= 8 else 0)


def test_a_cut_inside_the_last_line_is_found():
    report = av.verify([*(raw + b"\n" for raw in LINES[:-1]), LINES[-1]], KEY, [LATE])
    assert kinds(report) == {"record"}
    half = av.verify([*(raw + b"\n" for raw in LINES[:-1]), LINES[-1][:30]], KEY, [LATE])
    assert [found.seq for found in half.findings if found.kind == "record"] == [SIZE - 1] * 2


def test_a_deleted_first_record_leaves_no_beginning():
    report = check(LINES[1:], EARLY, LATE)
    assert {"begin", "seq", "prev"} <= kinds(report)
    assert report.findings[0].seq == 0
    assert {"begin"} <= kinds(check([]))


@pytest.mark.parametrize("change", [{"action": "audit.end"}, {"log": LOG.upper()}, {"log": LOG[1:]}, {"log": 7}])
def test_a_first_record_that_begins_no_log_is_found(change):
    assert "begin" in kinds(check(rewritten(0, **change)))


def test_checkpoints_by_another_key_or_of_another_log_are_refused():
    assert kinds(check(LINES, note(LINES, secret=OTHER_SECRET))) == {"signature"}
    assert kinds(check(LINES, LATE, key=av.parse_key(key_text(OTHER_SECRET)))) == {"signature"}
    assert kinds(check(LINES, note(LINES, log=OTHER_LOG))) == {"origin"}
    other = chained(records(log=OTHER_LOG))
    assert kinds(check(other, LATE)) == {"origin"}
    assert check(other, note(other, log=OTHER_LOG)).is_intact


@pytest.mark.parametrize("size", ["22", "24", "023", "+23", "٢٣", "23 ", "1e1", "-1", "", "9" * 5000])
def test_a_checkpoint_whose_size_was_changed_is_refused(size):
    assert kinds(check(LINES, LATE.replace(f"\n{SIZE}\n", f"\n{size}\n"))) <= {"signature", "note"}
    assert not check(LINES, LATE.replace(f"\n{SIZE}\n", f"\n{size}\n")).is_intact


@pytest.mark.parametrize(
    "text",
    ["", "\n", "hello\n", LATE.replace("\n", "\r\n"), "x\n" + LATE, LATE + "\nx\n", LATE + EARLY[:60]],
)
def test_what_is_no_note_is_refused(text):
    assert kinds(check(LINES, text)) == {"note"}


def test_a_note_of_another_form_is_refused_though_the_key_signed_it():
    text = LATE.split("\n\n")[0] + "\n"
    assert kinds(check(LINES, note_of(text))) == set()
    for changed in (
        text.replace(f"\n{SIZE}\n", f"\n0{SIZE}\n"),
        text + "extension\n",
        text.replace("=\n", "\n"),
        text[:-3] + chr(ord(text[-3]) + 1) + "=\n",
        "x" + text,
    ):
        assert kinds(check(LINES, note_of(changed))) == {"note"}, changed
    loose = LATE[:-3] + chr(ord(LATE[-3]) + 1) + "=\n"
    assert base64.b64decode(loose.split()[-1]) == base64.b64decode(LATE.split()[-1])
    assert kinds(check(LINES, loose)) == {"signature"}


def test_every_byte_of_a_checkpoint_counts():
    for at in range(len(LATE)):
        changed = LATE[:at] + chr(ord(LATE[at]) ^ 1) + LATE[at + 1 :]
        assert not check(LINES[:2], changed).is_intact, at
        assert check(LINES, changed).signed == 0, at


def test_every_bit_of_an_export_counts():
    export = b"".join(raw + b"\n" for raw in LINES[:3])
    checkpoint = note(LINES, 3)
    for at in range(len(export)):
        for bit in (1, 32):
            changed = bytearray(export)
            changed[at] ^= bit
            lines = bytes(changed).splitlines(keepends=True) if b"\r" not in changed else [bytes(changed)]
            assert not av.verify(lines, KEY, [checkpoint]).is_intact, at


def test_a_clock_that_goes_back_by_more_than_an_hour_is_a_warning():
    time = json.loads(LINES[4])["time"]
    hour = 3_600_000_000
    assert check(rewritten(5, time=time - hour)).findings == ()
    report = check(rewritten(5, time=time - hour - 1))
    assert [(found.kind, found.seq) for found in report.findings] == [("warning", 5)]
    assert report.is_intact


def test_findings_are_bounded():
    assert len(check([b"x"] * 5000).findings) <= 8 * av.LISTED


# What a record is.


@pytest.mark.parametrize(
    "raw",
    [
        '{"action":"a","seq":1,"time":1}',
        '{"action":"\\b\\t\\n\\f\\r\\"\\\\\\u0000\\u001f\x7f\u2028é/","seq":1,"time":1}',
        '{"action":"a","n":[-9007199254740991,9007199254740991,0],"seq":1,"time":-1}',
        '{"action":"a","seq":1,"time":1,"\U00010000":1,"\uffff":2}',
        '{"a":{},"action":"a","b":[],"c":[{"a":null,"b":true,"c":false}],"seq":1,"time":1}',
    ],
)
def test_canonical_records_are_read(raw):
    assert av.parse_record(raw.encode())["seq"] == 1


@pytest.mark.parametrize(
    "raw",
    [
        '{"action":"a","seq":1,"time":1} ',
        ' {"action":"a","seq":1,"time":1}',
        '\ufeff{"action":"a","seq":1,"time":1}',
        '{"action":"a","seq":1,"time":1}{}',
        '{"seq":1,"action":"a","time":1}',
        '{"action":"a","seq":1,"time":1,"\uffff":2,"\U00010000":1}',
        '{"action":"a","seq":1,"seq":1,"time":1}',
        '{"action":"a","b":{"x":1,"x":1},"seq":1,"time":1}',
        '{"action":"a","b":{"y":1,"x":1},"seq":1,"time":1}',
        '{"action":"\\u0061","seq":1,"time":1}',
        '{"action":"\\/","seq":1,"time":1}',
        '{"action":"\\u001F","seq":1,"time":1}',
        '{"action":"\\u000a","seq":1,"time":1}',
        '{"action":"\\u007f","seq":1,"time":1}',
        '{"action":"\\ud800","seq":1,"time":1}',
        '{"action":"\\ud83d\\ude00","seq":1,"time":1}',
        '{"\\ud800":1,"action":"a","seq":1,"time":1}',
        '{"action":"\t","seq":1,"time":1}',
        '{"action":"a","n":1.0,"seq":1,"time":1}',
        '{"action":"a","n":1e3,"seq":1,"time":1}',
        '{"action":"a","n":-0,"seq":1,"time":1}',
        '{"action":"a","n":01,"seq":1,"time":1}',
        '{"action":"a","n":NaN,"seq":1,"time":1}',
        '{"action":"a","n":-Infinity,"seq":1,"time":1}',
        '{"action":"a","n":9007199254740992,"seq":1,"time":1}',
        '{"action":"a","n":-9007199254740992,"seq":1,"time":1}',
        '{"action":"a","n":' + "9" * 10_000 + ',"seq":1,"time":1}',
        '{"action":"a","n":' + "[" * 100_000 + "]" * 100_000 + ',"seq":1,"time":1}',
        '{"action":"a","seq":true,"time":1}',
        '{"action":"a","seq":"1","time":1}',
        '{"action":"a","seq":1,"time":null}',
        '{"action":1,"seq":1,"time":1}',
        '{"seq":1,"time":1}',
        '["action","seq","time"]',
        "1",
        "",
    ],
    ids=lambda raw: ascii(raw[:40]),
)
def test_other_text_is_no_record(raw):
    with pytest.raises(ValueError, match=r"^is not "):
        av.parse_record(raw.encode())


def test_a_doubled_key_is_called_that():
    with pytest.raises(ValueError, match="a key is there twice"):
        av.parse_record(b'{"action":"a","seq":1,"seq":1,"time":1}')


def test_what_is_not_utf_8_is_no_record():
    for raw in (b'{"action":"\xff","seq":1,"time":1}', b'{"action":"\xed\xa0\x80","seq":1,"time":1}', b"\xc0\x80"):
        with pytest.raises(ValueError, match=r"^is not canonical JSON"):
            av.parse_record(raw)


# Ed25519.

VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        b"\xaf\x82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").digest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032(secret, public, message, signature):
    public, signature = bytes.fromhex(public), bytes.fromhex(signature)
    assert public_of(bytes.fromhex(secret)) == public
    assert signed(bytes.fromhex(secret), message) == signature
    assert av.ed25519_is_valid(public, message, signature)
    assert not av.ed25519_is_valid(public, message + b"x", signature)
    for at in range(64):
        changed = bytearray(signature)
        changed[at] ^= 1 << at % 8
        assert not av.ed25519_is_valid(public, message, bytes(changed))


def test_many_signatures_of_random_keys():
    dice = random.Random(8032)
    for length in range(12):
        secret, message = dice.randbytes(32), dice.randbytes(length)
        signature = signed(secret, message)
        assert av.ed25519_is_valid(public_of(secret), message, signature)
        assert not av.ed25519_is_valid(public_of(dice.randbytes(32)), message, signature)


def test_a_second_form_of_a_signature_is_refused():
    signature, public = signed(SECRET, b"m"), public_of(SECRET)
    s = int.from_bytes(signature[32:], "little")
    assert not av.ed25519_is_valid(public, b"m", signature[:32] + (s + L).to_bytes(32, "little"))
    assert not av.ed25519_is_valid(public, b"m", signature + b"\0")
    assert not av.ed25519_is_valid(public, b"m", signature[:63])
    assert not av.ed25519_is_valid(public, b"m", b"")


def test_points_have_one_form():
    for number in (P, P + 1, P + 18, 1 | 1 << 255, (P - 1) | 1 << 255, 2**256 - 1, 2):
        with pytest.raises(ValueError, match="point"):
            av.ed25519_is_valid(number.to_bytes(32, "little"), b"", bytes(64))
    for raw in (b"", b"\1", b"\1" + bytes(30), b"\1" + bytes(32)):
        with pytest.raises(ValueError, match="point"):
            av.ed25519_is_valid(raw, b"", bytes(64))


def test_r_that_is_not_canonical_is_refused():
    # With the neutral point as the key, every R that is S times the base is accepted: here S is 0 and R is neutral.
    neutral = (1).to_bytes(32, "little")
    assert av.ed25519_is_valid(neutral, b"", neutral + bytes(32))
    assert not av.ed25519_is_valid(neutral, b"", (P + 1).to_bytes(32, "little") + bytes(32))
    assert not av.ed25519_is_valid(neutral, b"", (1 | 1 << 255).to_bytes(32, "little") + bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "exai-files-audit",
        key_text()[:-1],
        key_text().replace("exai-files-audit", "exai-files-other"),
        key_text()[:17] + "00000000" + key_text()[25:],
        key_text().replace("+A", "+B"),
        key_text() + "x",
        "exai-files-audit+00000000+" + "A" * 44,
    ],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="not a key"):
        av.parse_key(text)


def test_a_key_must_be_a_point():
    raw = b"\1\2" + bytes(31)
    own_id = hashlib.sha256(b"exai-files-audit\n" + raw).hexdigest()[:8]
    with pytest.raises(ValueError, match="point"):
        av.parse_key(f"exai-files-audit+{own_id}+{base64.b64encode(raw).decode()}")


# Proofs.


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, SIZE])
def test_a_proof_holds_for_every_record(size):
    checkpoint = note(LINES, size)
    for index in range(size):
        assert av.verify_proof(json.dumps(proof(LINES[:size], index, checkpoint)), KEY) == ()


PROOF = proof(LINES, 11)
CHANGES = {
    "record": edited(LINES[11], action="x.y").decode(),
    "another record": None,
    "index": 10,
    "negative index": -1,
    "index beyond": SIZE,
    "index is true": True,
    "size": SIZE + 1,
    "path too short": PROOF["path"][:-1],
    "path too long": [*PROOF["path"], "0" * 64],
    "path with more than hashes": [*PROOF["path"], "x"],
    "path empty": [],
    "path of long steps": [PROOF["path"][0] + PROOF["path"][1], *PROOF["path"][2:]],
    "path in capitals": [step.upper() for step in PROOF["path"]],
    "path reversed": PROOF["path"][::-1],
    "checkpoint of fewer": EARLY,
    "checkpoint by another": note(LINES, secret=OTHER_SECRET),
    "checkpoint twice": LATE + LATE,
    "checkpoint missing": "",
    "checkpoint of no text": 7,
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_proof_does_not_hold(what):
    changed = {**PROOF, what.split()[0]: CHANGES[what]}
    if what == "another record":
        changed = {**PROOF, "record": LINES[12].decode()}
    if what.startswith(("negative", "index")):
        changed = {**PROOF, "index": CHANGES[what]}
    findings = av.verify_proof(json.dumps(changed), KEY)
    assert "proof" in {found.kind for found in findings}


def test_numbers_of_a_proof_are_numbers():
    one = proof(LINES[:1], 0)
    second = proof(LINES, 1)
    assert av.verify_proof(json.dumps(one), KEY) == av.verify_proof(json.dumps(second), KEY) == ()
    for changed in ({**one, "size": True}, {**one, "size": 1.0}, {**one, "index": False}, {**second, "index": True}):
        assert [found.kind for found in av.verify_proof(json.dumps(changed), KEY)] == ["proof"]


def test_the_record_of_a_proof_has_its_number():
    lines = chained({**r, "seq": r["seq"] + 1} for r in records())
    assert [found.kind for found in av.verify_proof(json.dumps(proof(lines, 3)), KEY)] == ["proof"]


def test_every_byte_of_a_proof_counts():
    text = json.dumps(PROOF, ensure_ascii=False, separators=(",", ":"))
    for at in range(len(text)):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        assert av.verify_proof(changed, KEY) != (), at


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '"x"', '{"index":0}', "[" * 100_000])
def test_what_is_no_proof_does_not_hold(text):
    assert [found.kind for found in av.verify_proof(text, KEY)] == ["proof"]


def test_an_inner_node_does_not_pass_for_a_record():
    leaves = [leaf(raw) for raw in LINES]
    inner = {**PROOF, "record": (leaves[10] + leaves[11]).hex(), "index": 5, "path": PROOF["path"][1:]}
    assert av.verify_proof(json.dumps(inner), KEY) != ()


# The program.


@pytest.fixture
def given(tmp_path):
    """The files of an auditor: the export, the key, checkpoints and a proof."""
    (tmp_path / "log.jsonl").write_bytes(b"".join(raw + b"\n" for raw in LINES))
    (tmp_path / "key").write_text(key_text() + "\n", "utf-8")
    (tmp_path / "late").write_bytes(LATE.encode())
    (tmp_path / "early").write_bytes(EARLY.encode())
    (tmp_path / "proof").write_bytes(json.dumps(PROOF).encode())
    return tmp_path


def run(given, *arguments):
    command = [sys.executable, "-I", str(FILE), *arguments]
    return subprocess.run(command, cwd=given, capture_output=True, encoding="utf-8", check=False)


def test_the_program_alone_says_that_a_log_is_intact(given):
    for key in ("key", key_text()):
        ran = run(given, "log.jsonl", "--key", key, "--checkpoint", "early", "--checkpoint", "late", "--proof", "proof")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith(
            f"intact: {SIZE} records, root {root([leaf(raw) for raw in LINES]).hex()}, 3 check"
        )
        assert f"They cover {SIZE} records" in ran.stdout


def test_the_program_says_what_it_cannot_see(given):
    ran = run(given, "log.jsonl", "--key", "key")
    assert ran.returncode == 0
    assert (
        "Cutting the tail off or rewriting everything cannot be seen without a checkpoint kept elsewhere" in ran.stdout
    )


def test_the_program_names_what_is_wrong(given):
    (given / "log.jsonl").write_bytes(b"".join(raw + b"\n" for raw in LINES[:5] + LINES[6:]))
    ran = run(given, "log.jsonl", "--key", "key", "--checkpoint", "late")
    assert ran.returncode == 12
    assert "seq: record 5: a record numbered 6 is where record 5 should be\n" in ran.stdout
    assert f"cut: record {SIZE - 1}: " in ran.stdout
    assert f"NOT INTACT: {SIZE - 1} records" in ran.stdout


def test_a_proof_is_held_against_the_export(given):
    (given / "log.jsonl").write_bytes(b"".join(raw + b"\n" for raw in rewritten(9, note="gone")))
    ran = run(given, "log.jsonl", "--key", "key", "--proof", "proof")
    assert (ran.returncode, "root: record 0: " in ran.stdout) == (12, True)
    (given / "proof").write_text(json.dumps({**PROOF, "index": 4}), "utf-8")
    ran = run(given, "log.jsonl", "--key", "key", "--proof", "proof")
    assert (ran.returncode, "proof: record 4: " in ran.stdout) == (12, True)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["log.jsonl"],
        ["log.jsonl", "--key", "missing"],
        ["log.jsonl", "--key", "late"],
        ["log.jsonl", "--key", key_text()[:-1]],
        ["missing", "--key", "key"],
        ["log.jsonl", "--key", "key", "--checkpoint", "missing"],
        ["log.jsonl", "--key", "key", "--proof", "missing"],
    ],
)
def test_a_wrong_command_is_not_a_wrong_log(given, arguments):
    ran = run(given, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Traceback" not in ran.stderr


def test_files_of_any_bytes_are_a_wrong_log(given):
    (given / "log.jsonl").write_bytes(bytes(range(256)))
    (given / "late").write_bytes(b"\xff\xfe")
    (given / "proof").write_bytes(b"\xff\xfe")
    ran = run(given, "log.jsonl", "--key", "key", "--checkpoint", "late", "--proof", "proof")
    assert (ran.returncode, ran.stderr) == (12, "")


def test_memory_does_not_grow_with_the_log():
    def lines(count):
        before = bytes(32)
        for record in records(count):
            raw = line({**record, "prev": before.hex()})
            before = leaf(raw)
            yield raw + b"\n"

    av.verify(lines(100), KEY)
    tracemalloc.start()
    assert av.verify(lines(5000), KEY).is_intact
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


# The file itself.


def test_the_file_is_short_and_needs_nothing_but_python():
    text = FILE.read_text("utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names)
        assert not isinstance(node, ast.ImportFrom) or node.level == 0
