"""Call a URL and wait for the answer.

The node waits while the event is processed, and the client of the event waits with it: use `webhook` where nobody needs
the answer. The answer is the node's result: `status`, `headers` (names in small letters) and `body`: the value of an
answer that is JSON, else its text, or null when it is neither. `failed` and `refused` have `error`.

A body is sent as JSON, the fields of a form or a text, and is built from values: what an event says cannot change what
is called. Every call has an `Idempotency-Key`. When the event must be processed again, since someone else wrote its
profile first, the same call is not made again: its answer is remembered.

Only public addresses are called, and redirects are followed on the same host only; `HEADRACE_ALLOW_ADDRESSES` names
what else may be called.
"""

from headrace.engine.plugin import CallConfig, CallError, Example, Out, Plugin, Step

CRM = {"url": "https://crm.example/manager?mail={{ profile.traits.email }}"}
KIM = {"status": 200, "headers": {"content-type": "application/json"}, "body": {"name": "Kim"}}


class HttpRequest(Plugin[CallConfig]):
    uses = {"http"}
    ports = {
        "ok": "The answer's status is 200 to 299.",
        "refused": "There is an answer, with another status.",
        "failed": "There is no answer, or it cannot be read: refused address, no connection, timeout, too large.",
    }
    examples = (
        Example(
            CRM,
            port="ok",
            about="The answer is the node's result",
            profile={"traits": {"email": "a@b.c"}},
            mocks=[KIM],
            result=KIM,
        ),
        Example(
            CRM,
            port="refused",
            about="The other side answers 404",
            profile={"traits": {"email": "a@b.c"}},
            mocks=[{"status": 404, "body": "nobody"}],
            result={"status": 404, "headers": {}, "body": "nobody", "error": "the answer's status is 404"},
        ),
        Example(
            {
                "url": "https://crm.example/orders",
                "headers": {"x-shop": "{{ source.id }}"},
                "body": {"order": "{{ event.properties.id }}", "total": "{{ event.properties.total }}"},
                "auth": {"bearer": {"secret": "CRM_TOKEN"}},
                "as": "form",
                "sign": [{"secret": "CRM_HOOK"}],
                "timeout_seconds": 3,
            },
            port="failed",
            about="The other side does not answer in time",
            event={"properties": {"id": "o-1", "total": 120}},
            mocks=[{"error": "no answer within 3 s"}],
            result={"error": "POST https://crm.example/orders: no answer within 3 s"},
        ),
    )

    async def run(self, step: Step) -> Out:
        try:
            answer = await step.http.send(self.config.call(step))
        except CallError as error:
            return Out("failed", {"error": error.reason})
        result = {"status": answer.status, "headers": answer.headers, "body": answer.body}
        if 200 <= answer.status < 300:
            return Out("ok", result)
        return Out("refused", {**result, "error": f"the answer's status is {answer.status}"})
