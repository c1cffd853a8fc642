from __future__ import annotations

import os
from pathlib import Path

import pytest

from certstore.links import MAX_OUTSIDE, Links


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    return found


def followed(root: Path, *links: Path) -> Links:
    made = Links([str(root)])
    made.follow([str(one) for one in links])
    return made


def test_a_kubernetes_mount_depends_on_each_name_on_its_way(root: Path) -> None:
    (root / "..2024").mkdir()
    (root / "..2024" / "tls.crt").write_text("x")
    (root / "..data").symlink_to("..2024")
    link = root / "tls.crt"
    link.symlink_to("..data/tls.crt")
    found = followed(root, link)
    assert found.dependents(str(root / "..data")) == (str(link),)
    assert found.dependents(str(root / "..2024" / "tls.crt")) == (str(link),)
    assert found.dependents(str(link)) == ()
    assert found.passes(str(root / "..2024"))
    assert not found.passes(str(root))
    assert list(found.outside) == []


def test_several_links_to_one_file_all_depend_on_it(root: Path) -> None:
    (root / "archive").mkdir()
    (root / "archive" / "one.pem").write_text("x")
    links = []
    for name in ("a", "b"):
        links.append(root / name)
        links[-1].symlink_to(root / "archive" / "one.pem")
    assert followed(root, *links).dependents(str(root / "archive" / "one.pem")) == tuple(map(str, links))


def test_a_link_to_nowhere_depends_on_what_may_come_there(root: Path) -> None:
    (root / "link").symlink_to("later/file.pem")
    found = followed(root, root / "link")
    assert found.passes(str(root / "later"))
    assert found.dependents(str(root / "later" / "file.pem")) == (str(root / "link"),)


def test_what_lies_outside_is_named_and_its_last_name_counts(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pem"
    outside.write_text("x")
    (root / "link").symlink_to(outside)
    found = followed(root, root / "link")
    assert list(found.outside) == [str(root / "link")]
    assert found.dependents(str(outside)) == (str(root / "link"),)


def test_not_all_of_very_many_outside_are_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("x")
    links = [root / f"{number}" for number in range(MAX_OUTSIDE + 5)]
    for one in links:
        one.symlink_to("../outside")
    assert len(followed(root, *links).outside) == MAX_OUTSIDE


def test_links_in_a_circle_come_to_an_end(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to("self/self/self")
    found = followed(root, root / "a", root / "self")
    assert found.dependents(str(root / "b")) == (str(root / "a"),)
    assert not os.path.exists(root / "a")  # noqa: PTH110
