// A receiver of OTLP over HTTP, in JSON and in Protobuf, as a collector's. It keeps the spans that it gets.

import { once } from 'node:events'
import { createServer } from 'node:http'
import { buffer } from 'node:stream/consumers'
import protobuf from 'protobufjs'

// The used part of opentelemetry/proto/{collector/trace,trace,resource,common}/v1, with its field numbers.
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1;
    bytes span_id = 2;
    bytes parent_span_id = 4;
    string name = 5;
    fixed64 start_time_unix_nano = 7;
    fixed64 end_time_unix_nano = 8;
    repeated KeyValue attributes = 9;
    repeated Event events = 11;
  }
  message Event { fixed64 time_unix_nano = 1; string name = 2; repeated KeyValue attributes = 3; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message ArrayValue { repeated AnyValue values = 1; }
  message AnyValue {
    oneof value {
      string string_value = 1;
      bool bool_value = 2;
      int64 int_value = 3;
      double double_value = 4;
      ArrayValue array_value = 5;
    }
  }
`)
const Request = root.lookupType('Request')

/** Starts a receiver on loopback. `spans` and `resources` hold what came. Give it a test's context, or close it. */
export async function startReceiver(t) {
  const spans = []
  const resources = []
  const server = createServer(async (request, response) => {
    const body = await buffer(request)
    const isJson = request.headers['content-type'].startsWith('application/json')
    const { resourceSpans } = isJson ? JSON.parse(body) : decoded(body)
    for (const { resource, scopeSpans } of resourceSpans) {
      resources.push(attributesOf(resource))
      spans.push(...scopeSpans.flatMap((scope) => scope.spans.map(spanOf)))
    }
    response.writeHead(200, { 'content-type': request.headers['content-type'] })
    response.end(isJson ? '{}' : '')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = () => {
    server.closeAllConnections()
    server.close()
  }
  t?.after(close)
  const url = `http://127.0.0.1:${server.address().port}/v1/traces`
  return { url, spans, resources, close }
}

function decoded(body) {
  const options = { longs: String, bytes: 'hex', arrays: true }
  return Request.toObject(Request.decode(body), options)
}

function spanOf({ name, startTimeUnixNano, endTimeUnixNano, events = [], ...span }) {
  return {
    name,
    traceId: idOf(span.traceId),
    spanId: idOf(span.spanId),
    parentSpanId: idOf(span.parentSpanId),
    startNs: BigInt(startTimeUnixNano),
    endNs: BigInt(endTimeUnixNano),
    attributes: attributesOf(span),
    events: events.map((event) => ({
      name: event.name,
      ns: BigInt(event.timeUnixNano),
      attributes: attributesOf(event),
    })),
  }
}

function idOf(id) {
  if (id === undefined || id.length === 0) return undefined
  return typeof id === 'string' ? id : Buffer.from(id).toString('hex')
}

function attributesOf({ attributes = [] }) {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]))
}

function plainValue({ stringValue, boolValue, intValue, doubleValue, arrayValue }) {
  if (arrayValue !== undefined) return arrayValue.values.map(plainValue)
  return intValue === undefined ? (stringValue ?? boolValue ?? doubleValue) : Number(intValue)
}
