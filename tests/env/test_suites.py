"""Suites and tasks, as LIBERO ships them."""

import pytest
from libero.libero.benchmark import get_benchmark_dict

from pi0.ript.env import suites
from pi0.ript.env.initial_states import make_initial_state
from tests.env.toys import ToyPolicy


def test_all_suites_are_known_and_have_limits():
    assert len(suites.suite_names()) == 5 + 16
    names = ("spatial", "goal", "10", "object_swap")
    limits = {
        protocol: [suites.step_limit(f"libero_{name}", protocol, None) for name in names]
        for protocol in ("openpi", "lerobot")
    }
    assert limits == {"openpi": [220, 300, 520, 280], "lerobot": [280, 300, 520, 280]}


def test_a_limit_that_was_chosen_holds_in_every_suite():
    assert suites.step_limit("libero_10", "lerobot", 90) == 90
    with pytest.raises(ValueError, match="did you mean 'libero_goal'"):
        suites.step_limit("libero_gaol", "openpi", 90)


def test_a_policy_that_names_no_protocol_is_held_to_openpis_limits():
    policy = ToyPolicy()
    assert suites.protocol_of(policy) == "openpi"
    policy.protocol = "lerobot"
    assert suites.protocol_of(policy) == "lerobot"


@pytest.mark.parametrize("suite", ["libero_goal", "libero_10", "libero_90"])
def test_tasks_are_numbered_as_in_libero(suite, capsys):
    theirs = get_benchmark_dict()[suite]()
    capsys.readouterr()

    count = suites.task_count(suite)
    assert [suites.task_name(suite, n) for n in range(count)] == theirs.get_task_names()
    assert suites.task_language(suite, 3) == theirs.get_task(3).language
    assert capsys.readouterr().out == ""  # LIBERO prints, we do not


def test_a_task_is_found_by_index_digits_name_or_instruction():
    for wanted in (7, "7", "turn_on_the_stove", "turn on the stove"):
        assert suites.resolve_task("libero_goal", wanted) == 7


def test_a_task_of_another_suite_is_named_with_it():
    assert suites.locate_task("libero_goal", 7) == ("libero_goal", 7)
    assert suites.locate_task("libero_goal", "libero_object/0") == ("libero_object", 0)
    with pytest.raises(ValueError, match="unknown suite 'libero_gaol'; did you mean"):
        suites.locate_task("libero_goal", "libero_gaol/0")


def test_an_unknown_task_names_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean 'turn_on_the_stove'"):
        suites.resolve_task("libero_goal", "turn_on_stove")
    with pytest.raises(ValueError, match=r"0\.\.9, got 10"):
        suites.resolve_task("libero_goal", 10)
    with pytest.raises(ValueError, match="did you mean 'libero_goal'"):
        suites.task_count("libero_gaol")


def test_perturbed_suites_ask_for_what_their_files_say():
    assert suites.task_language("libero_goal", 7) == "turn on the stove"
    assert suites.task_language("libero_goal_lan", 7) == "switch on the stove"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("libero-object", "libero_object"),
        ("LIBERO Spatial", "libero_spatial"),
        ("goal", "libero_goal"),
        ("Libero_Long_swap", "libero_10_swap"),
        ("libero_10_no_noops", "libero_10"),
        ("libero_object_no_noops_1.0.0_lerobot", "libero_object"),
        ("LIBERO90", "libero_90"),
    ],
)
def test_a_suite_is_found_by_the_names_that_people_have_for_it(written, meant, caplog):
    suites.find_suite.cache_clear()

    assert suites.find_suite(written) == suites.find_suite(written) == meant
    assert caplog.messages == [f"suite {written} is taken for {meant}"]
    assert suites.all_tasks(written)[3] == suites.locate_task(written, 3) == (meant, 3)
    assert make_initial_state(written, 3, 0, fixture_seed=0).suite == meant


def test_both_parts_of_libero_100_are_named():
    with pytest.raises(
        ValueError, match="'LIBERO-100'; LIBERO-100 is libero_90 and libero_10 together"
    ):
        suites.find_suite("LIBERO-100")


@pytest.mark.parametrize("number", ["\u00b2", "\u0663", "\u2460", "9" * 5000])
def test_what_only_looks_like_a_number_is_no_task(number):
    with pytest.raises(ValueError, match="has no task"):
        suites.resolve_task("libero_goal", number)
