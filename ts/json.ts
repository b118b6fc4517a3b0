/** Values as JSON and of this realm: what every object that this package returns has in common. */

/** Returns a value in the form that `JSON.stringify` can write: each bigint as a decimal string. */
function jsonForm(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(jsonForm)
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, innerForm(inner)]))
}

// A field may have its own form, as a reading has.
function innerForm(value: unknown): unknown {
  const own = (value as { toJSON?: unknown } | null | undefined)?.toJSON
  return typeof own === 'function' ? own.call(value) : jsonForm(value)
}

/** The method that `JSON.stringify` calls, for an object whose fields are own properties. */
export function toJSON(this: object): Readonly<Record<string, unknown>> {
  return jsonForm({ ...this }) as Readonly<Record<string, unknown>>
}

// Without a prototype: `Object.prototype` may have a `get`.
const TO_JSON: PropertyDescriptor = Object.assign(Object.create(null), { value: toJSON })

/**
 * Gives an object with bigints the method `toJSON`, and returns it. The method is no enumerable property, so
 * the object can be compared, spread, cloned and posted as before.
 */
export function withJson<Value extends object>(value: Value): Value {
  return Object.defineProperty(value, 'toJSON', TO_JSON)
}

/**
 * Copies plain objects and arrays of the native part into this realm, at any depth. In a context of `node:vm`,
 * such as a test of Jest, the native part's own arrays would be no instances of `Array`.
 */
export function ofThisRealm<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return Array.from(value, ofThisRealm) as Value
  if (!isPlain(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, ofThisRealm(inner)]),
  ) as Value
}

// The native part's classes have a prototype that has one itself.
function isPlain(value: object): boolean {
  return Object.getPrototypeOf(Object.getPrototypeOf(value)) === null
}
