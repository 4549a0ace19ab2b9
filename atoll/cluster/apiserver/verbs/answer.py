"""What a verb answers: a record as a served version shows it, or an object of another kind (Scale, Status …)."""

from __future__ import annotations

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.served import Served
from atoll.cluster.store.port import Record


class Answer(Struct):
    """`record` or `value`; `created` makes it 201 over HTTP."""

    served: Served | None
    record: Record | None = None
    value: Object | None = None
    created: bool = False

    @property
    def obj(self) -> Object:
        if self.value is not None:
            return self.value
        assert self.served is not None and self.record is not None
        return self.served.present(self.record)

    @property
    def data(self) -> bytes:
        if self.value is not None:
            return orjson.dumps(self.value)
        assert self.served is not None and self.record is not None
        return self.served.present_bytes(self.record)
