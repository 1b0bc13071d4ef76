"""The base of every plugin's config."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """What an author may write under a node's `config`; an unknown member is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )
