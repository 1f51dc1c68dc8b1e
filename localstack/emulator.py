"""Starts MiniStack, the emulator of the local stack, with what Poste needs changed in memory.

Run by `cargo local` (src/emulator.rs), which passes everything by environment and holds our standard input open:
when that closes, its process is gone, however it ended, and the emulator ends too, with all it started.

Each patch names the symbol upstream that it changes and refuses to start when that does not look as it did in the
version pinned in requirements.txt. A newer MiniStack therefore means: read each patch again, drop what upstream
has taken over, and move the pin.
"""

import collections
import contextvars
import decimal
import heapq
import importlib.metadata
import inspect
import json
import math
import operator
import os
import random
import re
import signal
import socket
import socketserver
import sys
import threading
import time
import types
from urllib.parse import parse_qsl

PINNED_VERSION = "1.5.33"
"""The version that the patches were written against; requirements.txt installs it."""

STOP_GRACE_SECONDS = 5.0
"""How long the emulator may take to end by itself before everything is killed."""

IDLE_SECONDS = 5.0
"""How long something sleeps that is woken when there is something to do."""

READ_UNIT_BYTES = 4096
"""What a unit of reading reads."""

FRAME_UNIT_BYTES = 32 * 1024
"""What counts as one message of a WebSocket API."""


def require(condition, symbol):
    """Ends the start with a clear word when something upstream is not as a patch expects it."""
    if not condition:
        sys.exit(
            f"emulator.py: {symbol} is not what this project's patch expects (written for MiniStack "
            f"{PINNED_VERSION}). Compare the patch with the installed version."
        )


def answer_without_nagle():
    """Saves 40 ms per invocation.

    The runtime API writes headers and body of an answer separately, and Nagle's algorithm holds back the second
    until the first is acknowledged, which the other side delays. Symbol: socketserver.StreamRequestHandler.
    """
    handler = socketserver.StreamRequestHandler
    require(
        getattr(handler, "disable_nagle_algorithm", None) is False,
        "socketserver.StreamRequestHandler.disable_nagle_algorithm",
    )
    handler.disable_nagle_algorithm = True


def do_not_wait_for_log_lines():
    """Saves 6 ms per invocation of a function that logs, and 50 ms of one that does not: what is in the pipe is taken, and
    what comes later is shown with the next invocation, as on AWS, where nobody waits for a log.

    Symbol: ministack.core.lambda_runtime.Worker._drain_stderr_bounded.
    """
    from ministack.core import lambda_runtime

    symbol = "ministack.core.lambda_runtime.Worker._drain_stderr_bounded"
    worker = lambda_runtime.Worker
    original = getattr(worker, "_drain_stderr_bounded", None)
    require(original is not None, symbol)
    parameters = inspect.signature(original).parameters
    require(list(parameters)[:3] == ["self", "first_line_wait", "idle_confirm"], symbol)

    def drain(self, first_line_wait=0.0, idle_confirm=0.0):
        return original(self, first_line_wait, idle_confirm)

    worker._drain_stderr_bounded = drain


def let_idle_functions_sleep():
    """Lets what waits for a function's next invocation sleep until there is one: upstream looks ten times a second, twice
    for each process, which takes most of a core when hundreds are idle.

    Symbols: ministack.core.lambda_runtime.ProvidedWorker._build_handler_class, whose handlers wait at a queue, and _spawn,
    which starts a server for each process; socketserver.ThreadingTCPServer.serve_forever and shutdown.
    """
    from ministack.core import lambda_runtime

    symbol = "ministack.core.lambda_runtime.ProvidedWorker"
    worker, server = lambda_runtime.ProvidedWorker, socketserver.ThreadingTCPServer
    build = getattr(worker, "_build_handler_class", None)
    require(
        build is not None
        and list(inspect.signature(build).parameters) == ["self", "generation", "pending"]
        and inspect.getsource(build).count("pending.") == 1,
        f"{symbol}._build_handler_class",
    )
    spawn = inspect.getsource(worker._spawn)
    require("socketserver.ThreadingTCPServer" in spawn and '{"poll_interval": 0.1}' in spawn, f"{symbol}._spawn")
    require("__shutdown_request = True" in inspect.getsource(server.shutdown), "socketserver.BaseServer.shutdown")
    serve, shut_down = server.serve_forever, server.shutdown

    class Patient:
        """The side of a queue where something is taken out."""

        def __init__(self, pending):
            self.pending = pending

        def get(self, timeout):
            return self.pending.get(timeout=max(timeout, IDLE_SECONDS))

    def wake_and_shut_down(self):
        # The loop looks at this as soon as somebody connects.
        self._BaseServer__shutdown_request = True
        try:
            socket.create_connection(self.server_address, timeout=1).close()
        except OSError:
            pass  # It is closed already, or looks by itself soon.
        shut_down(self)

    worker._build_handler_class = lambda self, generation, pending: build(self, generation, Patient(pending))
    server.serve_forever = lambda self, poll_interval=0.5: serve(self, max(poll_interval, IDLE_SECONDS))
    server.shutdown = wake_and_shut_down


def poll_queues_sooner():
    """Shortens the pause of the queue poller after a wake that found nothing, from 50 ms to 2 ms.

    Symbol: ministack.services.lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS.
    """
    from ministack.services import lambda_svc

    symbol = "ministack.services.lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS"
    require(getattr(lambda_svc, "_ESM_IDLE_WAKE_GAP_SECONDS", None) == 0.05, symbol)
    lambda_svc._ESM_IDLE_WAKE_GAP_SECONDS = 0.002


def hand_over_later(median_ms, p99_ms):
    """Lets a queue give a message to its function only so long after it was sent, at random, by the log-normal
    distribution with this median and this 99th percentile: as a queue and a poller do that are services of their own.

    For measurements with the service times of AWS; the proxy (src/proxy.rs) adds those of calls, and this is none.
    Symbols: ministack.services.sqs._collect_msgs, ministack.services.lambda_svc._esm_wake.
    """
    from ministack.services import lambda_svc, sqs

    symbol = "ministack.services.sqs._collect_msgs"
    original = getattr(sqs, "_collect_msgs", None)
    require(original is not None and list(inspect.signature(original).parameters)[:1] == ["q"], symbol)
    wake = getattr(lambda_svc, "_esm_wake", None)
    require(hasattr(wake, "set"), "ministack.services.lambda_svc._esm_wake")
    # As in src/proxy/rules.rs.
    sigma = math.log(p99_ms / median_ms) / 2.326347874
    chance = random.Random(0)

    def collect(q, *args, **kwargs):
        for message in q["messages"]:
            if message.setdefault("handed_over", False):
                continue
            message["handed_over"] = True
            wait = chance.lognormvariate(math.log(median_ms / 1_000), sigma)
            message["visible_at"] += wait
            # The poller finds nothing; it looks again when there is something for certain.
            timer = threading.Timer(max(0.0, message["visible_at"] - time.time()) + 0.001, wake.set)
            timer.daemon = True
            timer.start()
        return original(q, *args, **kwargs)

    sqs._collect_msgs = collect


def know_route_responses():
    """Teaches CloudFormation the type AWS::ApiGatewayV2::RouteResponse, through the emulator's own API for it.

    Symbols: ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS,
    ministack.services.apigateway._create_route_response and _delete_route_response.
    """
    from ministack.services import apigateway
    from ministack.services.cloudformation import provisioners

    resource = "AWS::ApiGatewayV2::RouteResponse"
    symbol = "ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS"
    handlers = getattr(provisioners, "_RESOURCE_HANDLERS", None)
    require(isinstance(handlers, dict) and "AWS::ApiGatewayV2::Route" in handlers, symbol)
    require(resource not in handlers, f"{symbol}[{resource!r}] (upstream has it now)")
    for name, arguments in (
        ("_create_route_response", ["api_id", "route_id", "data"]),
        ("_delete_route_response", ["api_id", "route_id", "rr_id"]),
    ):
        function = getattr(apigateway, name, None)
        require(
            function is not None and list(inspect.signature(function).parameters) == arguments,
            f"ministack.services.apigateway.{name}",
        )

    def route_of(properties):
        # A route's Ref is "{api}/{route}" here, and the route's id alone on AWS.
        return properties["RouteId"].rpartition("/")[2]

    def create(logical_id, properties, stack_name):
        status, _, body = apigateway._create_route_response(
            properties["ApiId"], route_of(properties), {"routeResponseKey": properties["RouteResponseKey"]}
        )
        if status >= 400:
            raise ValueError(f"{resource} create failed: {body!r}")
        identifier = json.loads(body)["routeResponseId"]
        return identifier, {"RouteResponseId": identifier}

    def delete(physical_id, properties):
        apigateway._delete_route_response(properties["ApiId"], route_of(properties), physical_id)

    handlers[resource] = {"create": create, "delete": delete}


def reserve_concurrency():
    """Lets CloudFormation bound the instances of a function (`ReservedConcurrentExecutions`), which upstream drops, when
    it is made and when it is updated.

    Symbols: ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS, ministack.services.lambda_svc._functions.
    """
    from ministack.services import lambda_svc
    from ministack.services.cloudformation import provisioners

    resource = "AWS::Lambda::Function"
    symbol = f"ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS[{resource!r}]"
    handler = getattr(provisioners, "_RESOURCE_HANDLERS", {}).get(resource)
    require(isinstance(handler, dict) and callable(handler.get("create")), symbol)
    require('"concurrency": None' in inspect.getsource(handler["create"]), f"{symbol}['create'] (upstream does it now)")
    require(
        callable(handler.get("update"))
        and list(inspect.signature(handler["update"]).parameters)
        == ["physical_id", "old_props", "new_props", "stack_name", "logical_id"]
        and "Reserved" not in inspect.getsource(handler["update"]),
        f"{symbol}['update']",
    )
    original, change = handler["create"], handler["update"]

    def take_bound(identifier, properties):
        bound = properties.get("ReservedConcurrentExecutions")
        lambda_svc._functions[identifier]["concurrency"] = None if bound is None else int(bound)

    def create(logical_id, properties, stack_name):
        identifier, attributes = original(logical_id, properties, stack_name)
        take_bound(identifier, properties)
        return identifier, attributes

    def update(physical_id, old_props, new_props, stack_name, logical_id=None):
        identifier, attributes = change(physical_id, old_props, new_props, stack_name, logical_id)
        take_bound(identifier, new_props)
        return identifier, attributes

    handler["create"], handler["update"] = create, update


def know_alarms_of_several_metrics():
    """Lets CloudFormation make an alarm on several metrics added up, which upstream refuses: it looks at the first.

    Nobody here is told of alarms. Symbol: ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS.
    """
    from ministack.services.cloudformation import provisioners

    resource = "AWS::CloudWatch::Alarm"
    symbol = f"ministack.services.cloudformation.provisioners._RESOURCE_HANDLERS[{resource!r}]"
    handler = getattr(provisioners, "_RESOURCE_HANDLERS", {}).get(resource)
    require(isinstance(handler, dict) and callable(handler.get("create")), symbol)
    original = handler["create"]
    parameters = list(inspect.signature(original).parameters)
    require(parameters == ["logical_id", "props", "stack_name"], f"{symbol}['create']")

    def create(logical_id, props, stack_name):
        first = next((metric["MetricStat"] for metric in props.get("Metrics", []) if "MetricStat" in metric), None)
        if first is not None:
            rest = {name: value for name, value in props.items() if name != "Metrics"}
            props = {**rest, **first["Metric"], "Period": first["Period"], "Statistic": first["Stat"]}
        return original(logical_id, props, stack_name)

    handler["create"] = create


judged = set()
"""What was judged since somebody asked: role, action, resource, and whether it was allowed."""

MOST_JUDGED = 20_000
"""More is not remembered."""


def remember_what_is_judged():
    """Remembers which permissions the functions' roles were asked for, for the test that removes each in turn.

    Symbols: ministack.core.iam_evaluator.evaluate, which knows who asks for what, and enforce, which decides.
    """
    from ministack.core import iam_evaluator

    judge = getattr(iam_evaluator, "evaluate", None)
    decide = getattr(iam_evaluator, "enforce", None)
    for function, first in ((judge, "ctx"), (decide, "access_key_id")):
        require(
            function is not None and next(iter(inspect.signature(function).parameters)) == first,
            "ministack.core.iam_evaluator.evaluate and enforce",
        )
    asked = contextvars.ContextVar("asked", default=None)

    def evaluate(ctx, *args, **kwargs):
        asked.set(ctx)
        return judge(ctx, *args, **kwargs)

    def enforce(*args, **kwargs):
        asked.set(None)
        refused = decide(*args, **kwargs)
        ctx = asked.get()
        role = ctx.principal_arn.partition(":assumed-role/")[2].partition("/")[0] if ctx else ""
        if role and len(judged) < MOST_JUDGED:
            judged.add((role, ctx.action, ctx.resource_arn, not refused))
        return refused

    iam_evaluator.evaluate = evaluate
    iam_evaluator.enforce = enforce


usage = collections.Counter()
"""What a deployment would be billed for, see `count_usage`."""

usage_lock = threading.Lock()

caller = contextvars.ContextVar("caller", default="other")
"""The function whose request is being answered."""


def use(what, amount=1):
    """Adds to `usage`."""
    with usage_lock:
        usage[what] += amount


def count_usage():
    """Counts by function what is billed, and tells it at `/_poste/usage`, for measurements (crates/bench).

    A flat object of numbers, by words with a space between:

    - `call FUNCTION OPERATION`: requests of a function; `other` is whoever is no function;
    - `write FUNCTION TABLE`, `read FUNCTION TABLE`: units of tables. Upstream's own count of writes is by size and right.
      What it does not count is counted here: a write whose condition fails costs what the item that is there costs, and
      reads cost by size: a whole unit for each 4 KB begun, of each item or, in a query, of all together; half if the
      read need not be consistent. Where a request asks for a part of each item, that part is counted;
    - `invoke FUNCTION`, `ms FUNCTION`: invocations, and how long they took as the emulator sees it;
    - `frame in`, `frame out`: messages on sockets, in units of 32 KB.

    Symbols: ministack.services.dynamodb._add_consumed_capacity, _batch_get_item, _put_item, _update_item, _delete_item;
    ministack.core.lambda_runtime.Worker.invoke and ProvidedWorker.invoke; ministack.services.sts._sessions.
    """
    from ministack.core import lambda_runtime
    from ministack.services import dynamodb

    symbol = "ministack.services.dynamodb"
    add = getattr(dynamodb, "_add_consumed_capacity", None)
    parameters = ["result", "data", "table_name", "write", "old_item", "new_item", "index_name"]
    require(add is not None and list(inspect.signature(add).parameters) == parameters, f"{symbol}._add_consumed_capacity")
    names = ["_batch_get_item", "_put_item", "_update_item", "_delete_item"]
    for name in names:
        function = getattr(dynamodb, name, None)
        require(function is not None and list(inspect.signature(function).parameters) == ["data"], f"{symbol}.{name}")
    for name in ["_item_size_bytes", "_billed_item_bytes", "_capacity_kb", "_get_item_by_key", "_extract_key_from_item"]:
        require(hasattr(dynamodb, name), f"{symbol}.{name}")

    def read_units(bytes_read, consistent):
        return max(1, -(-bytes_read // READ_UNIT_BYTES)) * (1.0 if consistent else 0.5)

    def write_units(table, *items):
        return dynamodb._capacity_kb(max([dynamodb._billed_item_bytes(table, item) for item in items if item] or [0]))

    def add_and_count(result, data, table_name, write=False, old_item=None, new_item=None, index_name=None):
        add(result, data, table_name, write=write, old_item=old_item, new_item=new_item, index_name=index_name)
        if write:
            units = write_units(dynamodb._tables.get(table_name, {}), old_item, new_item)
            use(f"write {caller.get()} {table_name}", units)
        else:
            items = result["Items"] if "Items" in result else [result.get("Item")]
            size = sum(dynamodb._item_size_bytes(item) for item in items)
            use(f"read {caller.get()} {table_name}", read_units(size, data.get("ConsistentRead", False)))

    def counting_batches(get):
        def get_and_count(data):
            answer = get(data)
            if answer[0] == 200:
                found = json.loads(answer[2])["Responses"]
                for table, wanted in data["RequestItems"].items():
                    sizes = [dynamodb._item_size_bytes(item) for item in found.get(table, [])]
                    sizes += [0] * (len(wanted["Keys"]) - len(sizes))
                    units = sum(read_units(size, wanted.get("ConsistentRead", False)) for size in sizes)
                    use(f"read {caller.get()} {table}", units)
            return answer

        return get_and_count

    def counting_refusals(write):
        def write_and_count(data):
            answer = write(data)
            if answer[0] == 400 and b"ConditionalCheckFailed" in answer[2]:
                name = data["TableName"]
                table = dynamodb._tables[name]
                key = data.get("Key") or dynamodb._extract_key_from_item(table, data["Item"])
                use(f"write {caller.get()} {name}", write_units(table, dynamodb._get_item_by_key(table, key)))
            return answer

        return write_and_count

    dynamodb._add_consumed_capacity = add_and_count
    dynamodb._batch_get_item = counting_batches(dynamodb._batch_get_item)
    for name in names[1:]:
        setattr(dynamodb, name, counting_refusals(getattr(dynamodb, name)))

    def counting_invocations(worker):
        symbol = f"ministack.core.lambda_runtime.{worker.__name__}.invoke"
        invoke = worker.__dict__.get("invoke")
        require(invoke is not None and list(inspect.signature(invoke).parameters)[1:3] == ["event", "request_id"], symbol)

        def invoke_and_count(self, *args, **kwargs):
            began = time.monotonic()
            try:
                return invoke(self, *args, **kwargs)
            finally:
                use(f"invoke {self.func_name}")
                use(f"ms {self.func_name}", (time.monotonic() - began) * 1000)

        worker.invoke = invoke_and_count

    counting_invocations(lambda_runtime.Worker)
    counting_invocations(lambda_runtime.ProvidedWorker)


def look_only_where_the_condition_is():
    """Lets a query of a table look at the items that its condition on the sort key leaves, and of these at as many as it
    wants. Upstream evaluates the condition, word by word, for every item of the partition: with a log of ten thousand
    messages a page takes half a second, in which nobody else is served.

    Upstream still does all the rest, with a table that holds nothing else. Conditions of other kinds than ours, and
    queries of indexes, are left to it. Symbols: ministack.services.dynamodb._query, _tables, _normalize_table_name,
    _get_attr_type and _extract_key_val.
    """
    from ministack.services import dynamodb

    symbol = "ministack.services.dynamodb"
    original = getattr(dynamodb, "_query", None)
    require(original is not None and list(inspect.signature(original).parameters) == ["data"], f"{symbol}._query")
    source = inspect.getsource(original)
    require(
        "table = _tables.get(name)" in source
        and source.count("_tables") == 1
        and 'candidates = list(table["items"].get(pk_val, {}).values())' in source,
        f"{symbol}._query",
    )
    for name in ["_tables", "_normalize_table_name", "_get_attr_type", "_extract_key_val"]:
        require(hasattr(dynamodb, name), f"{symbol}.{name}")
    condition = re.compile(r"\s*(#?\w+)\s*=\s*(:\w+)\s+AND\s+(#?\w+)\s*(=|<=|>=|<|>)\s*(:\w+)\s*")
    comparisons = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
    # As a key is kept, by its type; a key of bytes is kept as text whose order is another.
    kinds = {"S": str, "N": decimal.Decimal}

    def narrowed(data):
        """The table with those items of the partition that matter; nothing if this is another kind of query."""
        found = condition.fullmatch(data.get("KeyConditionExpression") or "")
        table = dynamodb._tables.get(dynamodb._normalize_table_name(data.get("TableName")))
        if not found or not table or data.get("IndexName"):
            return None
        partition, value, sort, comparison, bound = found.groups()
        names, values = data.get("ExpressionAttributeNames") or {}, data.get("ExpressionAttributeValues") or {}
        kind = kinds.get(dynamodb._get_attr_type(table, table["sk_name"]))
        if [names.get(partition, partition), names.get(sort, sort)] != [table["pk_name"], table["sk_name"]] or not kind:
            return None
        value = dynamodb._extract_key_val(values[value])
        items = table["items"].get(value, {})
        compare, bound = comparisons[comparison], kind(dynamodb._extract_key_val(values[bound]))
        keys = [(key, name) for key, name in ((kind(name), name) for name in items) if compare(key, bound)]
        if data.get("Limit") and not data.get("ExclusiveStartKey"):
            first = heapq.nsmallest if data.get("ScanIndexForward", True) else heapq.nlargest
            keys = first(int(data["Limit"]), keys)
        return {**table, "items": {value: {name: items[name] for _, name in keys}}}

    def query(data):
        try:
            table = narrowed(data)
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
            table = None  # Upstream says what is wrong with it.
        if table is None:
            return original(data)
        tables = types.SimpleNamespace(get=lambda _: table)
        return types.FunctionType(original.__code__, {**original.__globals__, "_tables": tables})(data)

    dynamodb._query = query


def function_of(headers):
    """The function that a request comes from: each has credentials of its own, a session that bears its name."""
    from ministack.services import sts

    key = re.search(r"Credential=([^/]+)/", headers.get(b"authorization", b"").decode("latin-1"))
    session = sts._sessions.get(key.group(1)) if key else None
    return session["Arn"].rpartition("/")[2] if session else "other"


def count_requests():
    """Counts what is asked of the emulator by what it is, and tells the counts at `/_poste/requests`, for tests that say
    what a thing costs. Also tells what `count_usage` counts, how queues stand, and at `/_poste/permissions` what was
    judged since the last time that somebody asked.

    Symbol: ministack.app.app.
    """
    from ministack import app as module

    original = getattr(module, "app", None)
    require(inspect.iscoroutinefunction(original), "ministack.app.app")
    require(list(inspect.signature(original).parameters) == ["scope", "receive", "send"], "ministack.app.app")
    queue_figures()  # Looks for its symbol.
    counts = collections.Counter()
    told = {
        "/_poste/requests": lambda: counts,
        "/_poste/usage": lambda: usage,
        "/_poste/permissions": judgements,
        "/_poste/queues": queue_figures,
    }

    async def tell(numbers, send):
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with usage_lock:
            body = json.dumps(numbers).encode()
        await send({"type": "http.response.body", "body": body})

    def count(scope):
        headers = dict(scope["headers"])
        caller.set(function_of(headers))
        target = headers.get(b"x-amz-target", b"").decode()
        if target:
            operation = target.rpartition(".")[2]
        elif "/@connections/" in scope["path"]:
            operation = f"{scope['method']} @connections"
        else:
            return
        counts[operation] += 1
        use(f"call {caller.get()} {operation}")

    async def counting(scope, receive, send):
        if scope["type"] == "http":
            if scope["path"] in told:
                await tell(told[scope["path"]](), send)
                return
            count(scope)
        elif scope["type"] == "websocket":
            receive, send = counting_frames(receive, send)
        await original(scope, receive, send)

    module.app = counting


def counting_frames(receive, send):
    """The two ends of a socket, with what passes counted."""

    def count(message, what, direction):
        if message.get("type") == what:
            content = (message.get("text") or "").encode() or message.get("bytes") or b""
            use(f"frame {direction}", max(1, -(-len(content) // FRAME_UNIT_BYTES)))

    async def receive_and_count():
        message = await receive()
        count(message, "websocket.receive", "in")
        return message

    async def send_and_count(message):
        count(message, "websocket.send", "out")
        await send(message)

    return receive_and_count, send_and_count


def queue_figures():
    """How many messages can be received from each queue, and how old the oldest is, in seconds: on AWS these are metrics
    of SQS, of which upstream has none. By the queues' addresses.

    Symbol: ministack.services.sqs._queues.
    """
    from ministack.services import sqs

    queues = getattr(getattr(sqs, "_queues", None), "_data", None)
    require(isinstance(queues, dict), "ministack.services.sqs._queues._data")
    now, figures = time.time(), {}
    for queue in list(queues.values()):
        messages = list(queue["messages"])
        visible = sum(message["visible_at"] <= now for message in messages)
        oldest = max((now - message["sent_at"] for message in messages), default=0.0)
        figures[queue["url"]] = {"visible": visible, "oldest_s": max(0.0, oldest)}
    return figures


def judgements():
    """What was judged since the last call."""
    told = sorted(judged)
    judged.clear()
    return told


def count_in_numbers():
    """Lets a CloudFormation parameter be an event source's MaximumConcurrency: it arrives as text.

    Without this the queue poller fails at each pass, silently for the function.
    Symbol: ministack.services.lambda_svc._sqs_esm_concurrency.
    """
    from ministack.services import lambda_svc

    original = getattr(lambda_svc, "_sqs_esm_concurrency", None)
    require(
        original is not None and next(iter(inspect.signature(original).parameters)) == "esm",
        "ministack.services.lambda_svc._sqs_esm_concurrency",
    )

    def concurrency(esm, *args, **kwargs):
        scaling = esm.get("ScalingConfig") or {}
        if isinstance(scaling.get("MaximumConcurrency"), str):
            scaling["MaximumConcurrency"] = int(scaling["MaximumConcurrency"])
        return original(esm, *args, **kwargs)

    lambda_svc._sqs_esm_concurrency = concurrency


def answer_as_api_gateway_does():
    """Makes four things on a socket as they are on AWS.

    The subprotocol that $connect answers with is chosen; upstream accepts the socket without any, and a client that
    offered some has to fail the connection then (RFC 6455, 4.1). A function's answer goes out only where the route
    names a route response. A function that fails is told of in API Gateway's words, not in its own. `connectedAt` is
    the time of the connection in all its events; upstream puts the time of the event there.
    Symbols: ministack.services.apigateway._invoke_ws_lambda, _ws_request_context and handle_websocket.
    """
    from ministack.services import apigateway

    invoke = getattr(apigateway, "_invoke_ws_lambda", None)
    handle = getattr(apigateway, "handle_websocket", None)
    symbol = "ministack.services.apigateway"
    require(
        invoke is not None
        and list(inspect.signature(invoke).parameters)[3:8]
        == ["route", "stage", "connection_id", "event_type", "message_id"],
        f"{symbol}._invoke_ws_lambda",
    )
    require(
        handle is not None
        and list(inspect.signature(handle).parameters)[:4] == ["scope", "receive", "send", "api_id"]
        and 'send({"type": "websocket.accept"})' in inspect.getsource(handle),
        f"{symbol}.handle_websocket",
    )
    describe = getattr(apigateway, "_ws_request_context", None)
    require(
        describe is not None and '"connectedAt": now_ms' in inspect.getsource(describe),
        f"{symbol}._ws_request_context",
    )
    # Each socket is a task of its own, and so has its own values.
    chosen = contextvars.ContextVar("subprotocol", default=None)
    connected = contextvars.ContextVar("connected", default=None)

    def describe_with_one_time(*args, **kwargs):
        context = describe(*args, **kwargs)
        if connected.get() is None:
            connected.set(context["connectedAt"])
        return {**context, "connectedAt": connected.get()}

    async def invoke_as_api_gateway(api, account, region, route, stage, connection, event_type, message, *rest, **named):
        answer = await invoke(api, account, region, route, stage, connection, event_type, message, *rest, **named)
        if event_type == "CONNECT" and isinstance(answer, dict):
            for name, value in (answer.get("headers") or {}).items():
                if name.lower() == "sec-websocket-protocol":
                    chosen.set(value)
        if event_type == "MESSAGE":
            if answer is None or failed(answer):
                error = {"message": "Internal server error", "connectionId": connection, "requestId": message}
                return {"statusCode": 500, "body": json.dumps(error)}
            if not route.get("routeResponseSelectionExpression"):
                return {**answer, "body": ""}
        return answer

    def failed(answer):
        # What upstream makes of a function that is at its bound, and of a function's error: its JSON, with the status of a
        # bad gateway.
        if answer.get("statusCode") == 429:
            return True
        if answer.get("statusCode") != 502:
            return False
        try:
            return "errorMessage" in json.loads(answer.get("body") or "")
        except (TypeError, ValueError):
            return False

    async def handle_with_subprotocol(scope, receive, send, *args, **kwargs):
        async def send_with_subprotocol(message):
            if message.get("type") == "websocket.accept" and chosen.get():
                message = {**message, "subprotocol": chosen.get()}
            await send(message)

        await handle(scope, receive, send_with_subprotocol, *args, **kwargs)

    apigateway._ws_request_context = describe_with_one_time
    apigateway._invoke_ws_lambda = invoke_as_api_gateway
    apigateway.handle_websocket = handle_with_subprotocol


def permit_batches_as_what_they_hold():
    """Checks `SendMessageBatch` and its like of SQS as `SendMessage`: on AWS there are no permissions for batches.

    Symbol: ministack.core.iam_actions.extract_iam_action.
    """
    from ministack.core import iam_actions

    original = getattr(iam_actions, "extract_iam_action", None)
    require(original is not None, "ministack.core.iam_actions.extract_iam_action")

    def action_of(*args, **kwargs):
        action = original(*args, **kwargs)
        return action.removesuffix("Batch") if action and action.startswith("sqs:") else action

    iam_actions.extract_iam_action = action_of


def tag_what_comes_in_parts():
    """Gives a file that was uploaded in parts the tags that CreateMultipartUpload names; upstream drops them.

    Symbols: ministack.services.s3._create_multipart_upload, _complete_multipart_upload and _object_tags.
    """
    from ministack.services import s3

    symbol = "ministack.services.s3"
    create = getattr(s3, "_create_multipart_upload", None)
    complete = getattr(s3, "_complete_multipart_upload", None)
    require(
        create is not None
        and list(inspect.signature(create).parameters) == ["bucket_name", "key", "headers"]
        and "tagging" not in inspect.getsource(create),
        f"{symbol}._create_multipart_upload",
    )
    require(
        complete is not None
        and list(inspect.signature(complete).parameters)[:4] == ["bucket_name", "key", "body", "query_params"],
        f"{symbol}._complete_multipart_upload",
    )
    require(hasattr(s3, "_object_tags") and hasattr(s3, "_multipart_uploads"), f"{symbol}._object_tags")

    def create_with_tags(bucket_name, key, headers):
        before = set(s3._multipart_uploads)
        answer = create(bucket_name, key, headers)
        for upload in set(s3._multipart_uploads) - before:
            s3._multipart_uploads[upload]["tags"] = dict(parse_qsl(headers.get("x-amz-tagging", "")))
        return answer

    def complete_with_tags(bucket_name, key, body, query_params, *args, **kwargs):
        upload = s3._multipart_uploads.get(s3._qp(query_params, "uploadId"), {})
        answer = complete(bucket_name, key, body, query_params, *args, **kwargs)
        # Once: a second call for the same upload is answered as the first, and tags may have been changed since.
        if answer[0] == 200 and upload.get("tags"):
            s3._object_tags[(bucket_name, key, None)] = upload.pop("tags")
        return answer

    s3._create_multipart_upload = create_with_tags
    s3._complete_multipart_upload = complete_with_tags


def keep_the_functions_logs(folder):
    """Writes what a function prints to `folder`/NAME.log as well, at once.

    Upstream shows it in CloudWatch Logs only, after the invocation.
    Symbol: ministack.core.lambda_runtime.ProvidedWorker._pump_output.
    """
    from ministack.core import lambda_runtime

    worker = lambda_runtime.ProvidedWorker
    original = getattr(worker, "_pump_output", None)
    require(
        original is not None and list(inspect.signature(original).parameters) == ["self", "stream", "log_queue"],
        "ministack.core.lambda_runtime.ProvidedWorker._pump_output",
    )

    class Copied:
        """A stream that also writes each line that is read from it to a file."""

        def __init__(self, stream, file):
            self.stream, self.file = stream, file

        def readline(self):
            line = self.stream.readline()
            if line:
                self.file.write(line)
            return line

        def close(self):
            self.file.close()
            self.stream.close()

    def pump(self, stream, log_queue):
        # "poste-local-send" -> "send.log"; several instances of a function append to one file, line by line.
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self.func_name.rpartition("-")[2] or self.func_name)
        file = open(os.path.join(folder, f"{name}.log"), "ab", buffering=0)
        original(self, Copied(stream, file), log_queue)

    worker._pump_output = pump


parent_is_gone = threading.Event()
"""Set when standard input has closed."""


def end_with_our_parent():
    """Ends the emulator once standard input closes."""

    def wait():
        sys.stdin.buffer.read()
        parent_is_gone.set()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_GRACE_SECONDS)
        kill_our_group()
        os._exit(1)

    threading.Thread(target=wait, daemon=True, name="poste-parent").start()


def kill_our_group():
    """Kills this process and the functions' processes, which the emulator may leave behind when it ends."""
    # src/emulator.rs started us as the leader of a process group, so this reaches no one else.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main():
    """Applies the patches and runs the emulator until it is told to end."""
    installed = importlib.metadata.version("ministack")
    require(installed == PINNED_VERSION, f"the installed version {installed}")
    answer_without_nagle()
    do_not_wait_for_log_lines()
    let_idle_functions_sleep()
    poll_queues_sooner()
    if os.environ.get("POSTE_QUEUE_HAND_OVER_MS"):
        hand_over_later(*map(float, os.environ["POSTE_QUEUE_HAND_OVER_MS"].split()))
    know_route_responses()
    reserve_concurrency()
    know_alarms_of_several_metrics()
    remember_what_is_judged()
    look_only_where_the_condition_is()
    count_usage()
    count_requests()
    count_in_numbers()
    answer_as_api_gateway_does()
    permit_batches_as_what_they_hold()
    tag_what_comes_in_parts()
    keep_the_functions_logs(os.environ["POSTE_FUNCTION_LOGS"])
    end_with_our_parent()

    from ministack import app

    sys.argv = ["ministack"]
    try:
        app.main()
    finally:
        # While our parent lives, it looks after what is left.
        if parent_is_gone.is_set():
            kill_our_group()


if __name__ == "__main__":
    main()
