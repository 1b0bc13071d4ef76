"""Take a URL apart.

The node's result has `scheme`, `host` (lower case), `port` (a number or null), `path`, `query` and
`fragment`. Of a query parameter that stands there more than once, `query` has the first value.
"""

from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from headrace.engine.plugin import Config, Example, Out, Plugin, Step, Text


class ParseUrlConfig(Config):
    url: Text = Field(description="The URL.", examples=["{{ event.context.page.url }}"])


class ParseUrl(Plugin[ParseUrlConfig]):
    ports = {
        "parsed": "It is a URL with scheme and host.",
        "invalid": "It is not, or it is missing; `reason` says why.",
    }
    examples = (
        Example(
            {"url": "{{ event.properties.url }}"},
            "parsed",
            event={"properties": {"url": "https://Shop.example:8443/a/b?utm_source=mail&x=1&x=2#top"}},
            result={
                "scheme": "https",
                "host": "shop.example",
                "port": 8443,
                "path": "/a/b",
                "query": {"utm_source": "mail", "x": "1"},
                "fragment": "top",
            },
        ),
        Example(
            {"url": "{{ event.properties.url }}"}, "invalid", event={"properties": {"url": "/just/a/path"}}
        ),
    )

    def run(self, step: Step) -> Out:
        try:
            parts = urlsplit(step.value(self.config.url).strip())
            query: dict[str, str] = {}
            for name, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=1000):
                query.setdefault(name, value)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            return Out("invalid", {"reason": str(error)})
        if not parts.scheme or not host:
            return Out("invalid", {"reason": "it has no scheme and host"})
        result = {"scheme": parts.scheme, "host": host, "port": port, "path": parts.path, "query": query}
        return Out("parsed", result | {"fragment": parts.fragment})
