"""The schedule and early stopping, without a network."""

import pytest

from ustoolkit.recipe.training import TrainingSettings
from ustoolkit.training.state import TrainingState


def run(settings: TrainingSettings, scores: list[float]) -> tuple[TrainingState, list[float]]:
    """Feeds validation scores in until training would stop; returns the rates used, one an epoch."""
    state, rates = TrainingState(), []
    for score in scores:
        if state.stop_reason(settings):
            break
        rates.append(state.learning_rate(settings, state.fraction_done(settings, 0.0, state.seconds)))
        state.finish_epoch(settings, {"validation_dice": score, "seconds": 1.0}, 1.0, score)
    return state, rates


def test_plateau_halves_after_the_patience_and_again():
    settings = TrainingSettings(learning_rate=1.0, plateau_patience=2, stop_patience=100)
    _, rates = run(settings, [0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.6])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_stops_when_nothing_gets_better():
    state, _ = run(TrainingSettings(stop_patience=3), [0.1, 0.5, 0.4, 0.4, 0.4, 0.9])
    assert (state.epoch, state.best_epoch, state.best_score) == (5, 2, 0.5)
    assert "3 epochs" in state.stop_reason(TrainingSettings(stop_patience=3))


def test_an_equal_score_is_no_improvement():
    state, _ = run(TrainingSettings(stop_patience=2), [0.5, 0.5, 0.5, 0.5])
    assert state.best_epoch == 1 and state.epoch == 3


def test_cosine_starts_at_the_rate_and_ends_near_nothing():
    settings = TrainingSettings(schedule="cosine", learning_rate=1.0, epochs=10, stop_patience=100)
    _, rates = run(settings, [0.1 * i for i in range(10)])
    assert rates[0] == 1.0 and rates[5] == pytest.approx(0.5) and rates[-1] < 0.03
    assert rates == sorted(rates, reverse=True)


def test_a_time_limit_brings_the_cosine_down_in_time_and_ends_training():
    settings = TrainingSettings(schedule="cosine", learning_rate=1.0, epochs=1000, minutes=0.1, stop_patience=1000)
    state, rates = run(settings, [0.1] * 100)
    assert state.epoch == 6 and rates[-1] < 0.1
    assert "minutes" in state.stop_reason(settings)


def test_state_survives_text():
    state, _ = run(TrainingSettings(), [0.3, 0.2])
    assert TrainingState.from_json(state.to_json()) == state


def test_the_rate_rises_before_it_falls():
    settings = TrainingSettings(learning_rate=1.0, schedule="cosine", warmup=0.25)
    rates = [TrainingState().learning_rate(settings, fraction) for fraction in (0.0, 0.125, 0.25, 0.625, 1.0)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0])


def test_the_peak_takes_the_place_of_the_rate():
    settings = TrainingSettings(learning_rate=1.0, schedule="constant", warmup=0.5)
    assert [TrainingState().learning_rate(settings, at, peak=4.0) for at in (0.25, 0.5, 0.9)] == [2.0, 4.0, 4.0]


def test_a_state_of_before_is_read():
    """Checkpoints of earlier versions say nothing of steps within an epoch."""
    state = TrainingState.from_json('{"epoch": 2, "best_score": 0.5, "best_epoch": 1, "seconds": 3.0}')
    assert (state.epoch, state.step, state.accumulation) == (2, 0, 0)


def test_the_share_of_waiting_is_of_all_epochs():
    state = TrainingState()
    assert state.waited_share == 0.0
    for seconds, waited in ((10.0, 4.0), (30.0, 0.0)):
        row = {"seconds": seconds, "waited_seconds": waited}
        state.finish_epoch(TrainingSettings(), row, seconds, 0.5)
    assert state.waited_share == pytest.approx(0.1)
