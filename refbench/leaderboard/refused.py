"""The error of the verifier: a finding with a name, so that a person can look it up and a test can expect it."""

from __future__ import annotations

from refbench.errors import RefbenchError

FINDINGS: dict[str, str] = {
    # the package
    "no-entry": "There is no folder or zip at the path.",
    "broken-archive": "The zip cannot be read, or its members overlap.",
    "encrypted": "A file in the zip is encrypted.",
    "zip-bomb": "A file grows more than a hundred times when unpacked, or beyond what it declares.",
    "too-large": "A file, a table or the whole is larger than an entry can be (32 MiB a file, 1 GiB in all).",
    "too-many-files": "There are more files than an entry can have.",
    "path-traversal": "A name leads out of the entry.",
    "absolute-path": "A name is absolute.",
    "symbolic-link": "There is a symbolic link.",
    "special-file": "There is a pipe, socket or device.",
    "duplicate-file": "A file is there twice, perhaps in other letters.",
    "unexpected-file": "A file is none of those that `refbench submit` writes, or is not listed in entry.json.",
    "code": "There is a pickle, script, page or notebook.",
    "missing-file": "entry.json, manifest.json, records.jsonl, scores.parquet or a listed file is not there.",
    "edited-file": "A file's content is not what entry.json noted.",
    "wrong-name": "The entry's folder and name differ.",
    # texts
    "not-utf8": "A name or text is not UTF-8.",
    "control-character": "A name or text holds a control or direction character.",
    "markup": "A text holds markup or a script link.",
    "text-too-long": "A text is longer than the board can show.",
    "too-deep": "A record is nested more deeply than any real one.",
    "bad-link": "outputs_url is no https address.",
    "broken-json": "A record is not JSON.",
    "duplicate-key": "A record has a key twice.",
    "not-finite": "A number is NaN, infinite or no 64-bit number where that means nothing.",
    "broken-entry": "entry.json lacks a field, or has one of the wrong kind or an unknown one.",
    "broken-manifest": "manifest.json lacks a field, or has one of the wrong kind or an unknown one.",
    "broken-records": "A line of records.jsonl is no record.",
    "broken-scores": "scores.parquet is damaged, has other columns, or puts a score into another axis or region.",
    "broken-seal": "The content of entry.json was changed after packing.",
    "manifest-differs": "manifest.json or records.jsonl and entry.json disagree.",
    # what was asked
    "other-suite": "The entry is on another suite, or on another version of it.",
    "other-score": "The claims are of another version of the score.",
    "other-card": "A metric was measured by another definition (another version of a library, or another card).",
    "missing-metric": "A metric that scores is missing.",
    "unknown-metric": "A metric of the entry cannot run here.",
    "missing-sample": "A sample of the suite has no plan, record or output.",
    "extra-sample": "There is a plan, record or output of a sample that the suite has not, or that failed.",
    "duplicate-sample": "A sample is planned or recorded twice.",
    "duplicate-score": "A score is there twice.",
    # the images
    "not-a-png": "An output is no plain 8-bit RGB PNG.",
    "wrong-size": "An output has not its draft's size.",
    "decompression-bomb": "A picture declares or unpacks to far more pixels than it should have.",
    "hidden-content": "A PNG carries other things than pixels.",
    "edited-image": "An output's pixels are not those that its record names.",
    "target-copies": "Outputs follow the target where no model could know it.",
    "other-thumbnail": "A small picture is not its output made small.",
    "unrelated-images": "Outputs show something else than their drafts.",
    # the numbers
    "scores-differ": "Scores are not what the images give.",
    "claims-differ": "Claimed numbers are not what the scores give.",
    # the model
    "reads-hidden-files": "The model looked for the suite, the outputs or the network while it was run again.",
    "regeneration-differs": "The model's answer here is another picture.",
    "regeneration-failed": "The model gave no answer here.",
    "cannot-verify": "Something else kept the verifier from finishing; the message says what.",
}
"""Name -> what it means, as docs/reference/findings.md lists it."""


class RefusedError(RefbenchError):
    """An entry that cannot be accepted.

    Args:
        name: of the finding, one of :data:`FINDINGS`.
        message: one sentence: what was expected, what came, where, what to do.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        assert name in FINDINGS, name
        self.name = name
