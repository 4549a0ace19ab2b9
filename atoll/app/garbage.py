"""When cyclic garbage is looked for: objects are many here, and rarely cyclic.

The collector looks once at each object that lives on, however it is set: a twentieth of the time of a large Deployment.
So it waits for more objects than Python's 700, and looks as well whenever the process has little else to do: what comes
all at once (some 13,000 pods leave as many behind) then is mostly made, and waited for, without it. A look takes 0.6 s
for a million objects and finds a few dozen that are garbage.
"""

from __future__ import annotations

import asyncio
import gc
import time

_MOST = 1_000_000  # young objects that are due, busy or not
_WORTH = 50_000  # young objects that are worth a look at leisure
_LOOK_SECONDS = 1.0
_LEISURE = 0.2  # of a core


def collect_seldom() -> None:
    """For the process, from now on."""
    gc.set_threshold(_MOST, 25, 1000)


async def collect_at_leisure() -> None:
    """Until cancelled."""
    used = time.process_time()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        before, used = used, time.process_time()
        if used - before < _LEISURE * _LOOK_SECONDS and gc.get_count()[0] > _WORTH:
            gc.collect(0)
            used = time.process_time()
