"""Puts a profile into the segments in which its past had it."""

from datetime import datetime
from typing import cast

from headrace.engine.draft import PAST, Draft
from headrace.engine.files.watched import Watched
from headrace.engine.identity.follow import is_merged
from headrace.engine.model import Doc, iso
from headrace.engine.reads import StoreReads
from headrace.engine.steps.segments import learn, placed
from headrace.engine.store.protocol import Store


async def as_then(profile: Doc, watched: Watched, history: object, now: datetime) -> Doc:
    """Return a profile with the past that `history` tells, in those segments that ask for the past.

    They are entered and left without a word: it is where the profile stood before its event. What else a condition
    reads of the profile is as it stands there; where one reads the event, the profile stays in or out. `history` finds
    events as a store does. Raises StoreError.
    """
    if not watched.past or is_merged(profile):
        return profile
    draft = Draft(profile["tenant"], iso(now))
    draft.use_profile(profile, (1, 0))
    reads = StoreReads(cast("Store", history), draft, now)
    past = await learn(reads, list(watched.past), watched, now)
    asked = (one for one in watched.segments if one.past and one.when.is_lasting)
    # Of one that fails the event says so, when it asks.
    segments = placed(profile, asked, past, now, lambda name, error: None)  # noqa: ARG005
    return {**profile, "segments": segments} | ({PAST: past} if past else {})
