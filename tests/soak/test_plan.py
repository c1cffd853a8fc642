from __future__ import annotations

from soak.plan import CROWDS, Deed, Plan, deeds


def test_a_swap_is_due_each_ten_seconds_and_a_reload_each_minute() -> None:
    made = deeds(Plan(seconds=1200))
    assert [one.at for one in made if one.kind == "swap"] == [10.0 * number for number in range(1, 120)]
    reloads = [one for one in made if one.kind in ("reload", "refusal")]
    assert [one.at for one in reloads] == [30.0 + 60 * number for number in range(20)]
    assert made == sorted(made)


def test_of_three_reloads_one_is_taken_in() -> None:
    reloads = [one.kind for one in deeds(Plan(seconds=360)) if one.kind in ("reload", "refusal")]
    assert reloads == ["reload", "refusal", "refusal"] * 2


def test_workers_are_killed_only_where_that_is_asked_for() -> None:
    assert not [one for one in deeds(Plan(seconds=1200)) if one.kind == "kill"]
    made = deeds(Plan(seconds=1200, kill_every=600))
    assert [one for one in made if one.kind == "kill"] == [Deed(300.0, "kill"), Deed(900.0, "kill")]


def test_the_first_reload_is_in_the_first_quarter_however_short_the_soak_is() -> None:
    assert [one.at for one in deeds(Plan(seconds=120)) if one.kind in ("reload", "refusal")] == [20.0, 80.0]


def test_what_would_come_after_the_end_is_left_out() -> None:
    assert deeds(Plan(seconds=9, reload_every=100)) == [Deed(1.5, "reload")]


def test_the_crowds_share_all_connections() -> None:
    assert sum(one.share for one in CROWDS) == 1
