"""The official openai package, unmodified."""
import asyncio
import json
import time

import openai
from harness import BRIDGE_KEY, CLIENT_KEY, METERED_KEY, MODEL, PACED_KEY, check, expect, raises, require, user
from scripted_agent import SEPARATORS

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OSLO = 'tool:weather:{"city":"Oslo","days":[1,2]}'


def ask(s, text, client=None, **more):
    return (client or s.openai).chat.completions.create(model=MODEL, messages=user(text), **more)


def streamed(s, text, **more):
    """(text, finish reasons, chunks) of a streamed answer."""
    chunks = list(ask(s, text, stream=True, **more))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    return "".join(c.delta.content or "" for c in choices), [c.finish_reason for c in choices if c.finish_reason], chunks


@check
def whole(s):
    """openai: a whole answer, with usage"""
    answer = ask(s, "say:Hello, world")
    choice = answer.choices[0]
    expect((choice.message.role, choice.message.content, choice.finish_reason), ("assistant", "Hello, world", "stop"), "answer")
    expect((answer.object, answer.model, answer.id.startswith("chatcmpl-")), ("chat.completion", MODEL, True), "object, model, id")
    expect((answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens), (11, 7, 18), "usage")


@check
def in_a_stream(s):
    """openai: a streamed answer, the role first, one id, one finish_reason"""
    text, finished, chunks = streamed(s, "say:Hello, world")
    expect((text, finished), ("Hello, world", ["stop"]), "text and finish reasons")
    expect(chunks[0].choices[0].delta.role, "assistant", "role of the first delta")
    expect(len({(c.id, c.created, c.model, c.object) for c in chunks}), 1, "number of different (id, created, model, object)")
    require(len(chunks) > 4, f"{len(chunks)} chunks: the pieces were not streamed")


@check
def on_the_wire(s):
    """openai: the bytes of a stream: headers, nulls, [DONE], end of body, x-request-id"""
    headers, events = s.events({"model": MODEL, "messages": user("say:Hello"), "stream_options": {"include_usage": True}})
    expect(headers["Content-Type"].split(";")[0], "text/event-stream", "Content-Type")
    expect((headers["Cache-Control"], headers["X-Accel-Buffering"]), ("no-cache", "no"), "Cache-Control, X-Accel-Buffering")
    expect(headers["Content-Length"], None, "Content-Length")
    s.names_the_invocation(headers["X-Request-ID"])
    if not s.upstream:
        expect(headers["X-Session-ID"], s.agent.session["session_id"], "X-Session-ID")
    expect(events[-1], "[DONE]", "last event")
    chunks = [json.loads(event) for event in events[:-1]]
    expect(chunks[-1]["choices"], [], "choices of the last chunk")
    expect(chunks[-1]["usage"], {**chunks[-1]["usage"], "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}, "usage")
    for chunk in chunks[:-1]:
        expect((chunk.get("usage", "absent"), len(chunk["choices"])), (None, 1), "usage and number of choices before the last chunk")
        require("finish_reason" in chunk["choices"][0], f"no finish_reason in {chunk}")
    expect([c["choices"][0]["finish_reason"] for c in chunks[:-1] if c["choices"][0]["finish_reason"]], ["stop"], "finish reasons")
    expect(chunks[-2]["choices"][0]["delta"], {}, "delta of the chunk that finishes")


@check
def usage_on_demand(s):
    """openai: usage in a stream only when include_usage asks for it"""
    _, _, chunks = streamed(s, "say:Hi", stream_options={"include_usage": True})
    expect([c.usage.total_tokens for c in chunks if c.usage], [18], "usages with include_usage")
    expect(chunks[-1].choices, [], "choices of the usage chunk")
    _, _, chunks = streamed(s, "say:Hi")
    expect([c.usage for c in chunks if c.usage], [], "usages without include_usage")


@check
def either_answer(s):
    """openai: model_result to a stream, chunks to a whole answer, and the second dialect of agents"""
    for command in ("whole:One piece", "second:One piece", "say:One piece"):
        expect(ask(s, command).choices[0].message.content, "One piece", f"whole answer to {command}")
        text, finished, _ = streamed(s, command)
        expect((text, finished), ("One piece", ["stop"]), f"streamed answer to {command}")


@check
def tools_whole(s):
    """openai: a tool call in a whole answer"""
    choice = ask(s, OSLO, tools=[WEATHER], tool_choice="auto").choices[0]
    expect(choice.finish_reason, "tool_calls", "finish_reason")
    call = choice.message.tool_calls[0]
    expect((call.type, call.function.name), ("function", "weather"), "type and name")
    expect(json.loads(call.function.arguments), {"city": "Oslo", "days": [1, 2]}, "arguments")
    parameters = s.agent.last()["payload"]["parameters"]
    expect((parameters["tools"], parameters["tool_choice"]), ([WEATHER], "auto"), "tools and tool_choice at the agent")


@check
def tools_streamed(s):
    """openai: two tool calls in a stream, as the package's own accumulator reads them"""
    with s.openai.chat.completions.stream(model=MODEL, messages=user(OSLO.replace("tool:", "tools:")), tools=[WEATHER]) as stream:
        choice = stream.get_final_completion().choices[0]
    expect(choice.finish_reason, "tool_calls", "finish_reason")
    calls = choice.message.tool_calls
    expect([json.loads(c.function.arguments) for c in calls], [{"city": "Oslo", "days": [1, 2]}] * 2, "arguments")
    expect(len({c.id for c in calls}), 2, "number of ids")
    _, finished, chunks = streamed(s, OSLO.replace("tool:", "tools:"), tools=[WEATHER])
    deltas = [d for c in chunks for choice in c.choices for d in choice.delta.tool_calls or []]
    expect((finished, [d.index for d in deltas if d.id], [d.function.name for d in deltas if d.function.name]),
           (["tool_calls"], [0, 1], ["weather", "weather"]), "finish, indexes with id, names")


@check
def tool_results(s):
    """openai: a conversation with a tool's result reaches the agent in OpenAI's form"""
    call = {"id": "call_9", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    messages = [*user("Weather?"), {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_9", "content": "say:Rain"}]
    answer = s.openai.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    expect(answer.choices[0].message.content, "Rain", "content")
    seen = s.agent.last()["payload"]["messages"]
    expect((seen[1]["tool_calls"], seen[2]["tool_call_id"], seen[2]["role"]), ([call], "call_9", "tool"), "messages at the agent")


@check
def parameters(s):
    """openai: parameters reach the agent as given; absent and unknown ones do not"""
    given = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 17, "seed": 3, "presence_penalty": -1, "reasoning_effort": "low",
             "response_format": {"type": "json_object"}, "parallel_tool_calls": False, "user": "u"}
    ask(s, "say:x", extra_body={"prompt_cache_key": "k", "made_up": {"a": [1]}, "logit_bias": None}, **given)
    seen = s.agent.last()["payload"]["parameters"]
    expect({k: v for k, v in seen.items() if k != "stream"}, given, "parameters at the agent")
    ask(s, "say:x", max_completion_tokens=18)
    expect(s.agent.last()["payload"]["parameters"].get("max_tokens"), 18, "max_tokens from max_completion_tokens")
    s.openai.chat.completions.create(model=MODEL, messages=[{"role": "developer", "content": "d"}, *user("say:x")], max_tokens=-1)
    seen = s.agent.last()["payload"]
    expect({**seen["parameters"], "stream": 0}, {"stream": 0}, "parameters of a bare request")
    expect([m["role"] for m in seen["messages"]], ["developer", "user"], "roles")


@check
def parts(s):
    """openai: content parts, text and image, reach the agent"""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    answer = s.openai.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": [{"type": "text", "text": "say:seen"}, image]}])
    expect(answer.choices[0].message.content, "seen", "content")
    expect(s.agent.last()["payload"]["messages"][0]["content"], [{"type": "text", "text": "say:seen"}, image], "parts at the agent")


@check
def stop_sequences(s):
    """openai: stop is applied by the provider, across the borders of chunks"""
    expect(ask(s, "say:one two<END>three", stop=["<END>"]).choices[0].message.content, "one two", "whole answer")
    text, finished, _ = streamed(s, "say:one two<END>three", stop="<END>")
    expect((text, finished), ("one two", ["stop"]), "streamed answer")
    text, finished, _ = streamed(s, "say:one two<EN", stop=["<END>", "four"])
    expect((text, finished), ("one two<EN", ["stop"]), "answer that ends in half of a stop sequence")
    text, _, _ = streamed(s, "chunks:100000:1", stop=["7 "])
    expect(text, "0 1 2 3 4 5 6 ", "endless answer that is cut")
    expect(s.agent.cancelled(s.agent.last()["id"])[1], "stop_sequence", "reason of model_cancel")


@check
def text(s):
    """openai: split surrogates are joined, U+2028 and its like arrive, order is restored"""
    for command, wanted in (("surrogate", "<\U0001f600>"), ("separators", SEPARATORS), ("reordered:abcdefgh", "abcdefgh"),
                            ("say:quote \" backslash \\ tab \t newline \n é 漢 🎈", "quote \" backslash \\ tab \t newline \n é 漢 🎈")):
        expect(ask(s, command).choices[0].message.content, wanted, f"whole answer to {command}")
        expect(streamed(s, command)[0], wanted, f"streamed answer to {command}")
    _, _, raw = s.request("POST", "/v1/chat/completions", {"model": MODEL, "messages": user("separators"), "stream": True})
    require(not any(c.encode() in raw for c in "\u2028\u2029\u0085"), "a raw line separator is in the bytes")


@check
def reasoning(s):
    """openai: reasoning arrives under both names"""
    message = ask(s, "think:Hmm").choices[0].message
    expect((message.content, message.model_extra.get("reasoning_content"), message.model_extra.get("reasoning")),
           ("done", "Hmm", "Hmm"), "content, reasoning_content, reasoning")
    _, _, chunks = streamed(s, "think:Hmm")
    extra = [c.choices[0].delta.model_extra or {} for c in chunks if c.choices]
    expect(["".join(e.get(name) or "" for e in extra) for name in ("reasoning_content", "reasoning")], ["Hmm", "Hmm"], "streamed reasoning")


@check
def models(s):
    """openai: models.list, models.retrieve, the alias, name:latest, the routes without /v1"""
    ids = [m.id for m in s.openai.models.list()]
    require({MODEL, "my-gpt-4o"} <= set(ids), f"models are {ids}")
    expect(s.openai.models.retrieve(MODEL).id, MODEL, "retrieved model")
    alias = s.openai.models.retrieve("my-gpt-4o").model_extra
    expect((alias.get("context_length"), alias.get("max_model_len")), (128000, 128000), "context_length, max_model_len of the alias")
    for name in ("my-gpt-4o", f"{MODEL}:latest"):
        answer = s.openai.chat.completions.create(model=name, messages=user("say:here"))
        expect((answer.choices[0].message.content, answer.model), ("here", name), f"answer of {name}")
    bare = openai.OpenAI(base_url=s.program.base, api_key=CLIENT_KEY, max_retries=0)
    expect(ask(s, "say:bare", bare).choices[0].message.content, "bare", "answer without /v1")


@check
def key_in_the_path(s):
    """openai: a key in the path, and a wrong one there"""
    client = openai.OpenAI(base_url=f"{s.program.base}/k/{CLIENT_KEY}/v1", api_key="noop", max_retries=0)
    expect(ask(s, "say:in", client).choices[0].message.content, "in", "answer")
    require(MODEL in [m.id for m in client.models.list()], "the model is not listed")
    wrong = openai.OpenAI(base_url=f"{s.program.base}/k/wrong/v1", api_key="noop", max_retries=0)
    raises(openai.AuthenticationError, lambda: ask(s, "say:in", wrong))


@check
def authentication(s):
    """openai: AuthenticationError 401 and PermissionDeniedError 403"""
    error = raises(openai.AuthenticationError, lambda: ask(s, "say:x", openai.OpenAI(
        base_url=f"{s.program.base}/v1", api_key="nobody", max_retries=0)))
    expect((error.status_code, error.code), (401, "invalid_api_key"), "status and code")
    error = raises(openai.PermissionDeniedError, lambda: ask(s, "say:x", openai.OpenAI(
        base_url=f"{s.program.base}/v1", api_key=BRIDGE_KEY, max_retries=0)))
    require("client" in error.message, f"the message does not name the missing role: {error.message}")


@check
def unknown_model(s):
    """openai: NotFoundError 404 names the model"""
    client = s.openai
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="no-such", messages=user("x")))
    expect(error.code, "model_not_found", "code")
    require("no-such" in error.message, f"the message does not name the model: {error.message}")
    expect(raises(openai.NotFoundError, lambda: client.models.retrieve("no-such")).code, "model_not_found", "code of retrieve")


@check
def bad_requests(s):
    """openai: BadRequestError 400 with param"""
    create = s.openai.chat.completions.create
    for param, body in (
        ("temperature", {"temperature": 3}),
        ("top_p", {"top_p": -0.5}),
        ("n", {"n": 2}),
        ("messages[1].content", {"messages": [*user("a"), {"role": "user", "content": 5}]}),
        ("messages[0].role", {"messages": [{"role": "robot", "content": "a"}]}),
        ("stop", {"stop": ["a", "b", "c", "d", "e"]}),
    ):
        error = raises(openai.BadRequestError, lambda: create(**({"model": MODEL, "messages": user("say:x")} | body)))
        expect((error.param, error.type), (param, "invalid_request_error"), f"param and type for {body}")
    status, _, body = s.request("POST", "/v1/chat/completions", None, **{"X-None": "1"})
    expect(status, 400, f"status of an empty body ({body[:200]})")


@check
def errors_of_the_agent(s):
    """openai: an agent's errors before the first byte are statuses, streamed or not"""
    for code, kind, status, name in (
        ("rate_limited", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("overloaded", openai.InternalServerError, 503, "overloaded"),
        ("context_length", openai.BadRequestError, 400, "context_length_exceeded"),
        ("invalid_request", openai.BadRequestError, 400, None),
        ("timeout", openai.InternalServerError, 504, "agent_timeout"),
        ("internal", openai.InternalServerError, 502, "agent_error"),
        ("made_up", openai.InternalServerError, 502, "agent_error"),
    ):
        for stream in (False, True):
            error = raises(kind, lambda: ask(s, f"error:{code}", stream=stream))
            expect((error.status_code, error.code), (status, name), f"status and code of {code}, stream={stream}")
            require(f"the agent says {code}" in error.message, f"the agent's message is lost: {error.message}")
            require(error.response.headers.get("x-request-id"), "no x-request-id")
            expect(error.response.headers.get("retry-after"), "7" if status == 429 else error.response.headers.get("retry-after"), "retry-after")
    expect(ask(s, "error:refused").choices[0].finish_reason, "content_filter", "finish_reason of a refusal")


@check
def errors_in_a_stream(s):
    """openai: an agent's error in a stream is an error event and the end"""
    got = []

    def read():
        for chunk in ask(s, "late:internal", stream=True):
            got.append(chunk.choices[0].delta.content or "")

    error = raises(openai.APIError, read)
    expect("".join(got), "so far ", "text before the error")
    require("the agent says internal" in error.message, f"message: {error.message}")
    _, events = s.events({"model": MODEL, "messages": user("late:rate_limited")})
    last = json.loads(events[-1])
    expect((sorted(last), last["error"]["code"]), (["error"], "rate_limit_exceeded"), "last event")
    expect([e for e in map(json.loads, events[:-1]) if e["choices"][0]["finish_reason"]], [], "chunks that finish")
    raises(openai.InternalServerError, lambda: ask(s, "late:internal"))


@check
def rate_limit(s):
    """openai: RateLimitError 429 with Retry-After from the provider's own limit"""
    client = openai.OpenAI(base_url=f"{s.program.base}/v1", api_key=METERED_KEY, max_retries=0)
    for remaining in ("1", "0"):
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=user("say:x"))
        expect((raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-remaining-requests"]), ("2", remaining), "x-ratelimit-*")
        require(raw.headers["x-ratelimit-reset-requests"].endswith("s"), f"reset: {raw.headers['x-ratelimit-reset-requests']}")
    error = raises(openai.RateLimitError, lambda: ask(s, "say:x", client))
    require(1 <= int(error.response.headers["retry-after"]) <= 30, f"retry-after: {error.response.headers['retry-after']}")
    expect((error.type, error.code), ("rate_limit_error", "rate_limit_exceeded"), "type and code")
    expect(ask(s, "say:other").choices[0].message.content, "other", "answer to another key")


@check
def sixty_a_minute(s):
    """openai: of 61 quick requests at 60 a minute one gets 429, whose Retry-After is true to the second, and the package's retry succeeds"""
    client = openai.OpenAI(base_url=f"{s.program.base}/v1", api_key=PACED_KEY, max_retries=0)
    begin = time.monotonic()
    answered, error = 0, None
    while error is None:
        try:
            ask(s, f"say:{answered}", client)
            answered += 1
        except openai.RateLimitError as refusal:
            error = refusal
    refused = time.monotonic()
    # What comes back meanwhile counts: a busy machine may take longer than a second.
    require(60 <= answered <= 60 + (refused - begin), f"{answered} answers in {refused - begin:.2f} s")
    expect(error.response.headers["retry-after"], "1", "retry-after")
    # A token comes back each second, counted from the first request; the package waits as it is told.
    answer = client.with_options(max_retries=2).chat.completions.with_raw_response.create(model=MODEL, messages=user("say:61"))
    waited = time.monotonic() - refused
    expect((answer.retries_taken, answer.parse().choices[0].message.content), (1, "61"), "retries and answer")
    s.measured["61st request of a minute"] = f"429 after {(refused - begin) * 1000:.0f} ms, answered by the package's retry {waited:.2f} s later"


@check
def many_at_once(s):
    """openai: 40 streams at once on one agent link, each whole"""
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{s.program.base}/v1", api_key=CLIENT_KEY, max_retries=0) as client:
            async def one(number):
                stream = await client.chat.completions.create(model=MODEL, messages=user(f"say:answer {number}"), stream=True)
                return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
            return await asyncio.gather(*map(one, range(40)))

    expect(asyncio.run(run()), [f"answer {number}" for number in range(40)], "answers")


@check
def completions(s):
    """openai: texts continued and gaps filled, whole and streamed, with echo and stop"""
    ask = s.openai.completions.create
    answer = ask(model=MODEL, prompt="say:return x\n\nnever", suffix="}", stop=["\n\n"], max_tokens=300)
    choice = answer.choices[0]
    expect((answer.object, choice.text, choice.finish_reason, choice.index), ("text_completion", "return x", "stop", 0), "answer")
    payload = s.agent.last()["payload"]
    expect((payload["kind"], payload["suffix"], payload["parameters"]["max_tokens"]), ("completion", "}", 300), "invocation")
    chunks = list(ask(model=MODEL, prompt=["say:two"], echo=True, stream=True, stream_options={"include_usage": True}))
    expect("".join(c.choices[0].text for c in chunks if c.choices), "say:twotwo", "streamed text")
    expect(([c.choices[0].finish_reason for c in chunks if c.choices][-1], chunks[-1].usage.total_tokens), ("stop", 18), "end")
    error = raises(openai.BadRequestError, lambda: ask(model=MODEL, prompt=[1, 2, 3]))
    expect(error.param, "prompt", "param of a list of tokens")


@check
def embeddings(s):
    """openai: vectors as numbers and as base64, which the package asks for by itself"""
    ask = s.openai.embeddings.create
    wanted = [[3.0, -0.5, 1 / 3], [5.0, -0.5, 1 / 3]]
    for more in ({}, {"encoding_format": "float"}):
        answer = ask(model=MODEL, input=["one", "three"], **more)
        expect([item.index for item in answer.data], [0, 1], "indices")
        close = all(abs(a - b) < 1e-6 for item, vector in zip(answer.data, wanted) for a, b in zip(item.embedding, vector, strict=True))
        require(close, f"vectors with {more}: {[item.embedding for item in answer.data]}")
        expect((answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens), (MODEL, 4, 4), "model and usage")
    error = raises(openai.BadRequestError, lambda: ask(model=MODEL, input=[[1, 2]]))
    expect(error.param, "input", "param of lists of tokens")
