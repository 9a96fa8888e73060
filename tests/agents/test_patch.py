"""The files of a patch of Codex."""

from fabric.agents.patch import paths

PATCH = """*** Begin Patch
*** Add File: src/new file.py
+*** Add File: only.text
*** Update File: a.py
*** Move to: b.py
@@ def f():
-*** Delete File: no.py
+x
*** Delete File: c.py\r
*** Update File: a.py
*** End of File
*** End Patch"""


def test_every_file_is_named_once_a_moved_one_in_both_places() -> None:
    assert paths(PATCH) == ("src/new file.py", "a.py", "b.py", "c.py")


def test_no_patch_names_no_file() -> None:
    assert paths("") == ()
    assert paths("*** Update File:") == ()
