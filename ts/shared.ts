/**
 * The modules that several entry points use, as one file: `dist/shared.cjs`. Every entry point requires
 * it, so they all have the same classes and one native part.
 */

export * from './abort-signal'
export * from './arguments'
export * from './bound-unavailable'
export * from './clock'
export * from './clock-interface'
export * from './continuity'
export * from './detached'
export * from './disposable'
export * from './emitter'
export * from './errors'
export * from './format'
export * from './hr-time'
export * from './instant'
export * from './json'
export * from './native'
export * from './provenance'
export * from './publisher'
export * from './reading'
export * from './restored'
export * from './sampled-clock'
export * from './snapshot'
export * from './system-clock'
export * from './time-source'
export * from './watcher'
