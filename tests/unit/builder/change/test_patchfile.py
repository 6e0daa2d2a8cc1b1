# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches that are taken, and for each way to be wrong a twin that is refused."""

import pytest

from kmend_builder.change import patchfile
from kmend_builder.change.patchfile import MAX_LINE, Kind, parse_patch
from kmend_builder.errors import BuildError

GOOD = """\
From 0123456789abcdef Mon Sep 17 00:00:00 2001
From: A. Developer <dev@example.org>
Subject: [PATCH 6.1 2/3] net: check the
 length before use

This is CVE-2026-11111 and also
CVE-2026-22222; CVE-2026-11111 again.
---
 net/a.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/net/a.c b/net/a.c
index 1111111..2222222 100644
--- a/net/a.c
+++ b/net/a.c
@@ -1,3 +1,3 @@ int f(void)
 one
-two
+TWO
 three
--\x20
2.43.0

"""
BODY = GOOD[GOOD.index("diff --git") : GOOD.index("-- \n2.43")]


def test_a_mailed_patch_is_read() -> None:
    patch = parse_patch(GOOD.encode(), "x.patch")
    assert patch.subject == "net: check the length before use"
    assert patch.cves == ("CVE-2026-11111", "CVE-2026-22222")
    (file,) = patch.files
    assert (file.old, file.new, file.kind) == ("net/a.c", "net/a.c", Kind.MODIFIED)
    (hunk,) = file.hunks
    assert hunk.old == ["one\n", "two\n", "three\n"]
    assert hunk.new == ["one\n", "TWO\n", "three\n"]
    assert hunk.section == "int f(void)"


def test_encoded_subject() -> None:
    text = "Subject: =?utf-8?q?caf=C3=A9?=\n" + BODY
    assert parse_patch(text.encode(), "x").subject == "café"


def test_plain_diff_and_added_deleted() -> None:
    text = (
        "--- a/old.c\t2024-01-01 00:00:00\n+++ /dev/null\t1970-01-01 00:00:00\n@@ -1 +0,0 @@\n-gone\n"
        "diff -Nru a/new.c b/new.c\n--- a/new.c\t1970-01-01 00:00:00\n+++ b/new.c\t2024-01-01 00:00:00\n"
        "@@ -0,0 +1 @@\n+here\n"
    )
    files = parse_patch(text.encode(), "x").files
    assert [(file.path, file.kind) for file in files] == [("old.c", Kind.DELETED), ("new.c", Kind.ADDED)]


def test_no_newline_at_the_end() -> None:
    text = BODY.replace(" three\n", "-three\n\\ No newline at end of file\n+three\n")
    (hunk,) = parse_patch(text.encode(), "x").files[0].hunks
    assert hunk.old[-1] == "three"
    assert hunk.new[-1] == "three\n"


def test_empty_file_added() -> None:
    text = "diff --git a/e.h b/e.h\nnew file mode 100644\nindex 0000000..e69de29\n"
    (file,) = parse_patch(text.encode(), "x").files
    assert (file.kind, file.hunks) == (Kind.ADDED, ())


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("--- a/net/a.c", "--- /net/a.c", "absolute path"),
        ("+++ b/net/a.c", "+++ b/../a.c", "not inside the tree"),
        ("--- a/net/a.c\n+++ b/net/a.c", "--- a/net//a.c\n+++ b/net//a.c", "not inside the tree"),
        ("--- a/net/a.c", "--- net.c", "not a -p1 path"),
        ("--- a/net/a.c", '--- "a/net/\\303.c"', "quoted path"),
        ("+++ b/net/a.c", "+++ b/net/b.c", "renames net/a.c to net/b.c"),
        ("index 1111111..2222222 100644", "similarity index 90%\nrename from net/a.c", "renames or copies"),
        ("index 1111111..2222222 100644", "old mode 100644\nnew mode 100755", "mode"),
        ("index 1111111..2222222 100644", "GIT binary patch\nliteral 3", "binary"),
        ("@@ -1,3 +1,3 @@", "@@ -1,3 +1,4 @@", "truncated"),
        ("@@ -1,3 +1,3 @@", "@@ -1,2 +1,3 @@", "not as many"),
        ("@@ -1,3 +1,3 @@", "@@ -1,2 +1,2 @@", "more lines"),
        (" three\n", "", "truncated"),
        ("-two\n+TWO\n three\n", " two\n three\n", "changes nothing"),
        ("--- a/net/a.c\n+++ b/net/a.c\n", "", "belongs to no file|no hunk"),
    ],
)
def test_damaged_patches_are_refused(old: str, new: str, why: str) -> None:
    assert old in BODY
    parse_patch(BODY.encode(), "twin")
    text = BODY.replace(old, new)
    with pytest.raises(BuildError) as caught:
        parse_patch(text.encode(), "bad.patch")
    assert any(part in str(caught.value) for part in why.split("|"))
    assert "bad.patch" in str(caught.value)


def test_truncated_anywhere_never_parses_as_the_whole() -> None:
    whole = parse_patch(BODY.encode(), "x")
    for cut in range(BODY.index("@@") + 20, len(BODY) - 1):
        try:
            assert parse_patch(BODY[:cut].encode(), "x") != whole
        except BuildError:
            continue


def test_overlapping_hunks() -> None:
    second = "@@ -{} +4,2 @@\n-x\n+y\n z\n"
    assert len(parse_patch((BODY + second.format("4,2")).encode(), "x").files[0].hunks) == 2
    with pytest.raises(BuildError, match="overlapping"):
        parse_patch((BODY + second.format("3,2")).encode(), "x")


def test_crlf() -> None:
    with pytest.raises(BuildError, match="CRLF"):
        parse_patch(BODY.replace("\n", "\r\n").encode(), "x")


def test_long_line() -> None:
    fits = BODY.replace("TWO", "T" * (MAX_LINE - 1))
    parse_patch(fits.encode(), "x")
    with pytest.raises(BuildError, match="longer than"):
        parse_patch(BODY.replace("TWO", "T" * (1 << 20)).encode(), "x")


def test_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchfile, "MAX_BYTES", len(BODY))
    assert parse_patch(BODY.encode(), "x").files
    with pytest.raises(BuildError, match="larger than"):
        parse_patch(BODY.encode() + b"\n", "x")


def test_names_must_be_utf8_but_content_need_not() -> None:
    content = BODY.encode().replace(b"TWO", b"caf\xe9")
    (hunk,) = parse_patch(content, "x").files[0].hunks
    assert hunk.new[1].encode("utf-8", "surrogateescape") == b"caf\xe9\n"
    with pytest.raises(BuildError, match="UTF-8"):
        parse_patch(BODY.encode().replace(b"net/a.c", b"net/\xe9.c"), "x")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"Subject: nothing\n\njust text --- here\n---\n"])
def test_empty_patch(data: bytes) -> None:
    with pytest.raises(BuildError, match="empty"):
        parse_patch(data, "x")


def test_one_file_twice() -> None:
    other = BODY.replace("net/a.c", "net/b.c")
    assert len(parse_patch((BODY + other).encode(), "x").files) == 2
    with pytest.raises(BuildError, match="patched twice"):
        parse_patch((BODY + BODY).encode(), "x")
