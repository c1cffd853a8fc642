from __future__ import annotations

from pathlib import Path

import pytest

from config.sources import dotted, read

from .conftest import LISTENER, Load, Problems, Write


def test_key_paths_read_like_the_file() -> None:
    assert dotted(("backends", "imap", "servers", 0)) == "backends.imap.servers[0]"
    assert dotted(("backends", "a b")) == 'backends."a b"'
    assert dotted(("listeners", 2, "routes", 0, "hosts")) == "listeners[2].routes[0].hosts"
    assert dotted(("listeners", 2, "routes", 0, "hosts"), {2: "web"}) == "listeners[web].routes[0].hosts"


def test_tables_of_included_files_merge_and_lists_of_tables_append(loaded: Load) -> None:
    config = loaded(
        'include = ["conf.d/*.toml"]\n[server]\ndrain = "1s"\n[backends.b]\nservers = ["h:1"]\n' + LISTENER,
        **{
            "conf.d/10.toml": '[server]\nretire = "2h"\n[backends.b]\nbalance = "round-robin"\n',
            "conf.d/20.toml": '[[listeners]]\nname = "imap"\nbind = [":993"]\nprotocol = "imap"\nbackend = "b"\n',
            "conf.d/.hidden.toml": "not TOML",
        },
    )
    assert (config.server.drain, config.server.retire) == (1, 7200)
    assert config.backends["b"].balance == "round-robin"
    assert [listener.name for listener in config.listeners] == ["web", "imap"]


def test_a_value_given_in_two_files_is_a_problem_that_names_both(problems: Problems, tmp_path: Path) -> None:
    (problem,) = problems(
        'include = ["more.toml"]\n[server]\ndrain = "1s"\n' + LISTENER, **{"more.toml": '[server]\ndrain = "2s"\n'}
    )
    assert (problem.key, problem.file) == ("server.drain", tmp_path / "more.toml")
    assert str(tmp_path / "snigate.toml") in problem.message


def test_a_list_of_values_given_in_two_files_is_a_problem_too(problems: Problems) -> None:
    (problem,) = problems(
        'include = ["more.toml"]\n[certificates]\ndirectories = ["a"]\n' + LISTENER,
        **{"more.toml": '[certificates]\ndirectories = ["b"]\n'},
    )
    assert problem.key == "certificates.directories"


def test_a_table_in_one_file_and_a_value_in_another_do_not_merge(problems: Problems) -> None:
    found = problems('include = ["more.toml"]\n[log]\nlevel = "info"\n' + LISTENER, **{"more.toml": "log = 1\n"})
    assert [problem.key for problem in found] == ["log"]


def test_relative_paths_belong_to_the_file_that_says_them(loaded: Load, tmp_path: Path) -> None:
    config = loaded(
        'include = ["conf.d/more.toml"]\n[certificates]\ndirectories = ["certs"]\n' + LISTENER,
        **{
            "conf.d/more.toml": '[server]\ndrain = "1s"\n[certificates]\ntrust = ["system", "roots"]\n'
            'passphrase_files = ["p", "/abs"]\n[backends.b]\nservers = ["unix:run/b"]\n'
        },
    )
    assert config.certificates.directories == (tmp_path / "certs",)
    assert config.certificates.trust == ("system", tmp_path / "conf.d/roots")
    assert config.certificates.passphrase_files == (tmp_path / "conf.d/p", Path("/abs"))
    assert str(config.backends["b"].servers[0]) == f"unix:{tmp_path}/conf.d/run/b"
    assert config.server.state_directory == tmp_path / "snigate-data"


def test_a_problem_in_an_included_file_names_that_file(problems: Problems, tmp_path: Path) -> None:
    (problem,) = problems(
        'include = ["conf.d/*.toml"]\n' + LISTENER,
        **{"conf.d/x.toml": LISTENER.replace("web", "web2").replace(":443", ":444") + 'protcol = "tcp"\n'},
    )
    assert (problem.key, problem.file) == ("listeners[web2].protcol", tmp_path / "conf.d/x.toml")


def test_included_files_may_not_include(problems: Problems, tmp_path: Path) -> None:
    (problem,) = problems('include = ["a.toml"]\n' + LISTENER, **{"a.toml": 'include = ["b.toml"]\n'})
    assert (problem.key, problem.file) == ("include", tmp_path / "a.toml")


def test_a_pattern_may_match_nothing_but_a_named_file_must_exist(loaded: Load, problems: Problems) -> None:
    assert loaded('include = ["conf.d/*.toml"]\n' + LISTENER).listeners
    (problem,) = problems('include = ["missing.toml"]\n' + LISTENER)
    assert problem.key == "include"
    assert "missing.toml" in problem.message


def test_a_pattern_that_also_matches_the_file_itself_leaves_it_out(loaded: Load) -> None:
    config = loaded('include = ["*.toml", "m*.toml"]\n' + LISTENER, **{"more.toml": '[log]\nlevel = "error"\n'})
    assert config.log.level == "error"
    assert len(config.listeners) == 1


def test_include_must_be_a_list_of_texts(problems: Problems) -> None:
    for value in ('"conf.d/*.toml"', "[1]", '[""]', "{}"):
        found = problems(f"include = {value}\n{LISTENER}")
        assert [problem.key for problem in found] == ["include"]


def test_a_syntax_error_names_line_and_column(problems: Problems) -> None:
    (problem,) = problems("[server]\ndrain 1\n")
    assert problem.key == "line 2, column 7"
    assert problem.message.startswith("is not valid TOML: expected '='")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[server]\nworkers = 1\nworkers = 2 # more\n",
            "the key workers is given twice in this table; keep one of the two",
        ),
        ("[server]\n[tls]\n[server] # again\n", "the table [server] is given twice; put its keys under one heading"),
    ],
)
def test_a_key_or_table_given_twice_is_named(problems: Problems, text: str, message: str) -> None:
    (problem,) = problems(text)
    assert (problem.key, problem.message) == ("line 3", message)


def test_a_syntax_error_at_the_end_says_so(problems: Problems) -> None:
    (problem,) = problems('[server]\ndrain = "1')
    assert problem.key == "end of file"


def test_an_included_file_that_cannot_be_read_raises_no_complaint_about_what_it_may_hold(problems: Problems) -> None:
    main = 'include = ["b.toml"]\n[server]\nworkers = 0\n' + LISTENER.replace("127.0.0.1:8080", "in-b")
    assert [problem.key for problem in problems(main, **{"b.toml": "="})] == ["line 1, column 1", "server.workers"]


def test_a_missing_file_is_one_problem_that_names_it(write: Write, tmp_path: Path) -> None:
    tree = read(tmp_path / "none.toml")
    assert [str(problem) for problem in tree.problems] == [
        f"{tmp_path}/none.toml: cannot be read (no such file or directory); correct the path or the permissions"
    ]


def test_text_that_is_not_utf_8_is_named_by_line(tmp_path: Path) -> None:
    file = tmp_path / "snigate.toml"
    file.write_bytes(b'[log]\nlevel = "\xff"\n')
    (problem,) = read(file).problems
    assert problem.key == "line 2"


def test_a_byte_order_mark_is_no_part_of_the_text(loaded: Load) -> None:
    assert loaded("\ufeff" + LISTENER).listeners[0].name == "web"


def test_deep_nesting_and_huge_numbers_are_problems_not_crashes(problems: Problems) -> None:
    for text in ("x = " + "[" * 5000 + "]" * 5000, "x = " + "9" * 5000, "[server]\nworkers = 0x" + "f" * 6000):
        assert problems(text + "\n")
