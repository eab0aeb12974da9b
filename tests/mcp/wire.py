"""The HTTP below the official client: sees when it listens, and cuts streams."""

import anyio
import httpx


class Wire(httpx.AsyncBaseTransport):
    """Sends the client's requests. `listening` is set while a stream of GET is open; `sent` has (method, Last-Event-ID) of each request."""

    def __init__(self):
        self.inner = httpx.AsyncHTTPTransport()
        self.listening = anyio.Event()
        self.sent = []
        self.cut_at = None
        self.cuts = 0

    async def handle_async_request(self, request):
        self.sent.append((request.method, request.headers.get("last-event-id")))
        response = await self.inner.handle_async_request(request)
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            if request.method == "GET":
                self.listening.set()
            response.stream = Stream(self, response.stream)
        return response

    async def aclose(self):
        await self.inner.aclose()


class Stream(httpx.AsyncByteStream):
    """A stream of events that breaks off, once, where the bytes `wire.cut_at` begin: in the middle of an event."""

    def __init__(self, wire, inner):
        self.wire, self.inner = wire, inner

    async def __aiter__(self):
        seen = 0
        text = b""
        async for piece in self.inner:
            text += piece
            marker = self.wire.cut_at
            if marker is not None and marker in text:
                self.wire.cut_at = None
                self.wire.cuts += 1
                yield text[seen : max(seen, text.index(marker))]
                raise httpx.ReadError("the stream is cut")
            yield piece
            seen = len(text)

    async def aclose(self):
        await self.inner.aclose()
