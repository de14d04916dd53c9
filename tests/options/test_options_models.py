"""A pydantic model as options: the same sources, the same provenance, the same kind of errors."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest

from plait.errors import OptionsError
from plait.options import Duration, Meta, Secret, Size, is_options_class, render_help, resolve, starting_file


class Db(pydantic.BaseModel):
    """The database."""

    dsn: str = "sqlite://"
    pool: int = pydantic.Field(5, ge=1, le=10, description="connections")


class ShopOptions(pydantic.BaseModel):
    """Sells things."""

    listen: str = "tcp://:80"
    mode: Literal["fast", "safe"] = "safe"
    hosts: list[str] = []
    ports: list[int] = pydantic.Field(default_factory=lambda: [1])
    labels: dict[str, int] = {}
    verbose: bool = False
    password: pydantic.SecretStr = pydantic.SecretStr("hunter2")
    mine: Secret = Secret("hunter2")
    wait: Duration = 30.0
    room: Annotated[Size, Meta(description="room to use")] = 1
    db: Db = Db(dsn="mine")
    spare: Db | None = None
    renamed: int = pydantic.Field(0, alias="re-named")


def test_a_model_is_an_options_class() -> None:
    """Its name gives the prefix, and it is taken as it is."""
    assert is_options_class(ShopOptions)
    assert not is_options_class(dict)
    assert resolve(ShopOptions, environ={}).options == ShopOptions()


def test_all_sources_give_values(tmp_path: Path) -> None:
    """File, environment and command line in their order, with provenance; units are read as elsewhere."""
    (tmp_path / "c.toml").write_text("listen = 'file'\nmode = 'fast'\nrenamed = 4\n[db]\npool = 2\n")
    environ = {"SHOP_MODE": "fast", "SHOP_PORTS": "[1, 2]", "SHOP_LABELS": '{"a": 1}', "SHOP_MINE": "s3cret"}
    argv = ["--wait=5m", "--room=64KiB", "--hosts=a", "--hosts=b", "--verbose", "--password=s3cret"]
    resolved = resolve(ShopOptions, argv, environ=environ, config=tmp_path / "c.toml")
    options = resolved.options
    assert (options.listen, options.mode, options.ports, options.labels) == ("file", "fast", [1, 2], {"a": 1})
    assert (options.wait, options.room, options.hosts, options.verbose) == (300.0, 65536, ["a", "b"], True)
    assert (options.password.get_secret_value(), options.mine) == ("s3cret", Secret("s3cret"))
    assert (options.db, options.spare, options.renamed) == (Db(dsn="mine", pool=2), None, 4)
    assert str(resolved.provenance["mode"]) == "environment SHOP_MODE"
    assert str(resolved.provenance["db.pool"]) == f"{tmp_path / 'c.toml'} [db] pool"
    shown = {row.key: row.value for row in resolved.rows}
    assert (shown["password"], shown["mine"], shown["wait"]) == ("****", "****", "5m")


def test_a_models_errors_are_problems(tmp_path: Path) -> None:
    """All of them, each with its source, key and value, secrets masked."""

    class StrictOptions(pydantic.BaseModel):
        port: int
        pin: Annotated[pydantic.SecretStr, pydantic.Field(min_length=50)]
        ports: list[int] = []
        db: Db
        renamed: int = pydantic.Field(alias="re-named")

    with pytest.raises(OptionsError) as caught:
        resolve(
            StrictOptions,
            ["--port=http", "--ports=1", "--ports=x", "--renamed=y", "--pin=hunter2"],
            environ={"STRICT_DB__POOL": "99"},
        )
    found = {one.key: one for one in caught.value.problems}
    assert set(found) == {"port", "pin", "ports[1]", "db.pool", "renamed"}
    assert (found["port"].source, found["port"].value) == ("--port", "'http'")
    assert (found["db.pool"].source, found["db.pool"].value) == ("STRICT_DB__POOL", "'99'")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(OptionsError, match=r"missing: port: .*--port, or STRICT_PORT"):
        resolve(StrictOptions, environ={})


def test_unknown_keys_are_refused_as_for_options(tmp_path: Path) -> None:
    """Even if the model itself would let them pass."""
    (tmp_path / "c.toml").write_text("lisen = 1")
    with pytest.raises(OptionsError, match="did you mean 'listen'"):
        resolve(ShopOptions, environ={}, config=tmp_path / "c.toml")


def test_a_models_own_check_is_a_problem() -> None:
    """A validator over the whole model has no field; its message is masked like any other."""

    class CheckedOptions(pydantic.BaseModel):
        password: Secret = Secret("")

        @pydantic.model_validator(mode="after")
        def refuse(self) -> "CheckedOptions":
            raise ValueError(f"bad {self.password.reveal()}")

    with pytest.raises(OptionsError) as caught:
        resolve(CheckedOptions, ["--password=hunter2"], environ={})
    assert "hunter2" not in str(caught.value)
    assert "CheckedOptions: Value error, bad ****" in str(caught.value)


def test_a_models_reserved_and_colliding_names_are_refused() -> None:
    """When it is first used, since the class is not of Plait's making."""

    class BadOptions(pydantic.BaseModel):
        config: str = ""

    with pytest.raises(TypeError, match="cannot be called 'config'"):
        resolve(BadOptions, environ={})


def test_a_models_help_and_starting_file() -> None:
    """Descriptions and limits of pydantic's Field are shown, and the file loads."""
    text = " ".join(render_help(ShopOptions).split())
    assert "--db.pool INT connections (an integer, at least 1, at most 10)" in text
    assert "--room SIZE room to use" in text
    assert "hunter2" not in text
    file = starting_file(ShopOptions, "toml")
    assert "hunter2" not in file
    assert resolve(ShopOptions, environ={}, config="c.toml", read=lambda path: file.encode()).options == ShopOptions()
