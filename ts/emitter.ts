/**
 * `EventEmitter` with declarations of its own, so that the package's declarations need no `@types/node`. They
 * list every method of Node's class: an emitter is accepted wherever Node's types want one.
 */

import { EventEmitter } from 'node:events'
import { invalidArgument } from './errors'

/** The names of events, and the arguments of their listeners. */
export type EventMap<Events> = { readonly [Name in keyof Events]: readonly unknown[] }

/** A listener of one event. */
export type Listener<Arguments> = Arguments extends readonly unknown[]
  ? (...args: Arguments) => void
  : never

/** The methods of Node's `EventEmitter`, for these events. */
export interface Emitter<Events extends EventMap<Events>> {
  /** Adds a listener. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Adds a listener, as `on`. */
  addListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Adds a listener that is called once. */
  once<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Adds a listener before the others. */
  prependListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Adds a listener before the others that is called once. */
  prependOnceListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Removes a listener. */
  off<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Removes a listener, as `off`. */
  removeListener<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): this
  /** Removes all listeners, or those of one event. */
  removeAllListeners(name?: keyof Events): this
  /** Calls the listeners of an event, and returns whether it had any. */
  emit<Name extends keyof Events>(
    name: Name,
    ...args: Events[Name] extends readonly unknown[] ? Events[Name] : never
  ): boolean
  /** Returns the number of an event's listeners. */
  listenerCount<Name extends keyof Events>(name: Name, listener?: Listener<Events[Name]>): number
  /** Returns an event's listeners. */
  listeners<Name extends keyof Events>(name: Name): Array<Listener<Events[Name]>>
  /** Returns an event's listeners, with the wrappers of `once`. */
  rawListeners<Name extends keyof Events>(name: Name): Array<Listener<Events[Name]>>
  /** Returns the names of the events that have listeners. */
  eventNames(): Array<string | symbol>
  /** Returns the number of listeners of one event above which Node warns. */
  getMaxListeners(): number
  /** Sets the number of listeners of one event above which Node warns. */
  setMaxListeners(count: number): this
}

/** Node's `EventEmitter`, by these declarations. */
export const EmitterBase: new <Events extends EventMap<Events>>() => Emitter<Events> =
  EventEmitter as never

// The events of every emitter itself.
const OWN_EVENTS = ['newListener', 'removeListener']

/** Makes the methods of a class that add listeners refuse names that no event has. */
export function refuseOtherEvents(
  of: { readonly prototype: object },
  names: readonly string[],
): void {
  for (const method of [
    'on',
    'addListener',
    'once',
    'prependListener',
    'prependOnceListener',
  ] as const) {
    const add = EventEmitter.prototype[method]
    Object.defineProperty(of.prototype, method, {
      configurable: true,
      writable: true,
      value(this: EventEmitter, name: string, listener: () => void): EventEmitter {
        if (names.includes(name) || OWN_EVENTS.includes(name)) return add.call(this, name, listener)
        throw invalidArgument(
          `there is no event ${typeof name === 'string' ? JSON.stringify(name.slice(0, 40)) : 'of that name'}`,
          `use one of: ${names.join(', ')}`,
        )
      },
    })
  }
}
