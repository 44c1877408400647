"""What servers and proxies of others were seen to answer, in their own words; played here by a stub on a socket."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from modelserver import Raw, Reply, ScriptedModelServer
from pydantic import BaseModel

from graph.errors import Misconfigured
from graph.ports import Halt
from integrations.model import ChatModel, ModelSettings


class Colour(BaseModel):
    name: str


def error(status: int, message: str, kind: str, code: str) -> Reply:
    body = {"error": {"message": message, "type": kind, "param": "None", "code": code}}
    return Raw(json.dumps(body).encode(), status)


UNKNOWN_MODEL = error(
    400,
    "/chat/completions: Invalid model name passed in model=gpt-x. Call `/v1/models` to view available models.",
    "invalid_request_error",
    "400",
)
UNKNOWN_KEY = error(400, "No connected db.", "no_db_connection", "400")
OTHER = error(400, "temperature is out of range", "invalid_request_error", "400")


def said_of(reply: Reply) -> str:
    settings = {"base_url": "", "api_key": "sk-1", "models": {"triage": "gpt-x"}}
    with ScriptedModelServer(lambda _: reply) as server:
        settings["base_url"] = server.url
        with ChatModel(ModelSettings(**settings), Halt()) as model, pytest.raises(Misconfigured) as raised:  # type: ignore[arg-type]
            model.decide("triage", [SystemMessage("Choose."), HumanMessage("Which?")], Colour)
    return str(raised.value)


def test_a_proxy_that_calls_the_model_name_invalid_names_the_setting_to_change() -> None:
    said = said_of(UNKNOWN_MODEL)
    assert 'does not know the model "gpt-x" that MODEL_TRIAGE or MODEL names' in said


def test_a_proxy_without_a_database_that_is_given_an_unknown_key_is_understood_as_refusing_it() -> None:
    said = said_of(UNKNOWN_KEY)
    assert "refused the API key (HTTP 400). Check OPENAI_API_KEY" in said


def test_any_other_bad_request_is_neither() -> None:
    said = said_of(OTHER)
    assert "refused a request for the model" in said
    assert "temperature is out of range" in said
