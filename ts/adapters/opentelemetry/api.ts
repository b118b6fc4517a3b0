/** The parts of OpenTelemetry's API that the adapter calls. */

import type { Context, DiagAPI, Span, TraceAPI } from '@opentelemetry/api'
import { peer } from '../adapter'

interface ContextApi {
  active(): Context
  with<Result>(
    context: Context,
    callback: (span: Span) => Result,
    self: undefined,
    span: Span,
  ): Result
}

interface Api {
  readonly context: ContextApi
  readonly diag: DiagAPI
  readonly trace: TraceAPI
}

// The application's own copy of the API.
const api: Api = peer('@opentelemetry/api', () => require('@opentelemetry/api'))

/** Which span is active. */
export const context: ContextApi = api.context
/** The SDK's log about itself. */
export const diag: DiagAPI = api.diag
/** The global tracer provider. */
export const trace: TraceAPI = api.trace
