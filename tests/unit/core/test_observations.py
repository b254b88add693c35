"""The set of observations is closed: what the module defines is what its readers are told to expect."""

from dataclasses import is_dataclass
from typing import get_args

from cdc_sync.core import observations


def test_every_kind_of_observation_is_in_the_set() -> None:
    defined = {
        value
        for value in vars(observations).values()
        if is_dataclass(value) and getattr(value, "__module__", "") == observations.__name__
    }

    assert defined == set(get_args(observations.Observation))
