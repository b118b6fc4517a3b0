// Makes arguments. fast-check generates and shrinks descriptions, and `build` makes the values of them just
// before a call. A value may do something when the package looks at it: close the object that is called,
// take an array's memory away, call again, or throw.

const fc = require('fast-check')

/** The exception that values throw. The package must pass it on to its caller. */
const MINE = { thrownByTheValue: true }

/** The effects that a value's getters, traps and conversions can have. */
const EFFECTS = ['none', 'throw', 'close', 'detach', 'shrink', 'reenter', 'gc']

const TYPES = [
  BigInt64Array,
  BigUint64Array,
  Float64Array,
  Uint8Array,
  Int32Array,
  Uint8ClampedArray,
  DataView,
]

const STORAGES = ['plain', 'detached', 'resizable', 'tracking', 'shrunk', 'shared', 'growing']

const MOST_ELEMENTS = 64

/** Names of options and fields, and names that the package uses for results and failures. */
const NAMES = [
  ...['timescale', 'abi', 'assumedDriftPpm', 'requireSynchronized', 'nonDecreasing', 'trustedUids'],
  ...['unsupported', 'source', 'from', 'allowUnguarded', 'maxAgeMs', 'errorLimitNs'],
  ...['assumedErrorNs', 'hostErrorNs'],
  ...['shape', 'intervalMs', 'maxErrorNs', 'taiMinusUtcSec', 'wanderPpm', 'allowUntrustedCounter'],
  ...[
    'generation',
    'mode',
    'fileBytes',
    'pageOffset',
    'signal',
    'path',
    'errno',
    'syscall',
    'cause',
  ],
  ...['disruptionMarker', 'vmGeneration', 'counter', 'maxErrorNs', 'offsetNs', 'estErrorNs'],
  ...['magic', 'size', 'version', 'counterId', 'timeType', 'seqCount', 'flags', 'clockStatus'],
  ...['leapSecondSmearingHint', 'taiOffsetSec', 'leapIndicator', 'counterPeriodShift'],
  ...['counterValue', 'counterPeriodFracSec', 'timeSec', 'timeFracSec', 'timeMaxerrorNanosec'],
  ...['failed', 'code', 'message', 'change', 'replaced', 'error', 'before', 'after', 'updates'],
  ...['hot', 'slots', 'doubles', 'nowNs', 'rfcV4', 'assumedDriftPpb', 'length', 'aborted'],
  ...['get', 'set', 'value', 'writable', 'enumerable', 'configurable', 'then', 'toJSON'],
  ...['0', '1', '11', 'constructor', '__proto__', 'addEventListener', 'timeScale'],
]

const name = fc.constantFrom(...NAMES)
const effect = fc.constantFrom(...EFFECTS)

const number = fc.oneof(
  fc.double(),
  fc.integer({ min: -3, max: 40 }),
  fc.constantFrom(-0, 0.5, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, 2 ** 64, 1e6, 1e308, Number.NaN),
)

const bigint = fc.oneof(
  fc.bigInt({ min: -4n, max: 2n ** 65n }),
  fc.constantFrom(0n, -1n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 64n, -(2n ** 63n)),
)

const word = fc.oneof(
  fc.constantFrom(
    '',
    'utc',
    'tai',
    'gps',
    'uapi',
    'time',
    'none',
    'soon',
    'constructor',
    '0',
    '1n',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
)

// Paths of files in the test's directory.
const file = fc.oneof(
  fc.constantFrom('live', 'scratch', 'other', 'fifo', 'directory', 'none', 'x'.repeat(300)),
  fc.string({ unit: 'binary', maxLength: 12 }),
)

const leaf = fc.oneof(
  fc.constantFrom('undefined', 'null', 'true', 'false').map((value) => ({ kind: 'word', value })),
  number.map((value) => ({ kind: 'number', value })),
  bigint.map((value) => ({ kind: 'bigint', value })),
  fc.boolean().map((isNegative) => ({ kind: 'huge', isNegative })),
  word.map((value) => ({ kind: 'string', value })),
  file.map((value) => ({ kind: 'file', value })),
  fc
    .constantFrom('symbol', 'function', 'class', 'date', 'map', 'promise', 'regexp', 'error')
    .map((kind) => ({ kind })),
  fc
    .constantFrom('clock', 'closedClock', 'page', 'reading', 'token', 'clonedToken', 'signal')
    .map((kind) => ({ kind })),
  fc.constantFrom('slots', 'counters', 'out').map((kind) => ({ kind })),
  fc.record({
    kind: fc.constant('typed'),
    type: fc.nat(TYPES.length - 1),
    storage: fc.constantFrom(...STORAGES),
    length: fc.nat(MOST_ELEMENTS),
    at: fc.nat(3),
    own: fc.constantFrom('nothing', 'length', 'tag', 'iterator', 'constructor'),
    effect,
  }),
)

const { value: anything } = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    { weight: 6, arbitrary: leaf },
    fc.record({
      kind: fc.constant('array'),
      items: fc.array(tie('value'), { maxLength: 3 }),
      holes: fc.nat(2),
    }),
    fc.record({
      kind: fc.constant('object'),
      prototype: fc.constantFrom('plain', 'null', 'inherits'),
      entries: fc.array(fc.tuple(name, tie('value')), { maxLength: 4 }),
      getters: fc.array(fc.tuple(name, effect, tie('value')), { maxLength: 2 }),
      hasSymbol: fc.nat(9).map((one) => one === 0),
    }),
    fc.record({
      kind: fc.constant('proxy'),
      target: tie('value'),
      state: fc.constantFrom('transparent', 'revoked', 'acting'),
      effect,
    }),
    fc.record({ kind: fc.constant('coercible'), gives: leaf, effect }),
    fc.record({ kind: fc.constant('boxed'), inner: leaf }),
    fc.record({
      kind: fc.constant('signalLike'),
      aborted: tie('value'),
      effect,
      lacksRemove: fc.boolean(),
    }),
  ),
}))

/** A value that fits the parameter, and has an effect when the package looks at it. */
function acting(fits) {
  return fc.record({
    kind: fc.constant('acting'),
    inner: fc.constantFrom(...fits),
    how: fc.constantFrom('getters', 'proxy'),
    effect,
  })
}

/** A property that another program could have put on a prototype. */
const pollution = fc.record({
  on: fc.constantFrom(
    'Object',
    'Object',
    'Array',
    'TypedArray',
    'BigInt64Array',
    'Function',
    'Error',
  ),
  name: fc.oneof(
    { weight: 5, arbitrary: name },
    fc
      .constantFrom('iterator', 'toPrimitive', 'toStringTag', 'dispose')
      .map((symbol) => ({ symbol })),
  ),
  value: leaf,
})

const PROTOTYPES = {
  Object: Object.prototype,
  Array: Array.prototype,
  TypedArray: Object.getPrototypeOf(Uint8Array.prototype),
  BigInt64Array: BigInt64Array.prototype,
  Function: Function.prototype,
  Error: Error.prototype,
}

/** Runs `work` while the properties are on the prototypes. Properties that exist stay as they are. */
function polluted(world, pollutions, work) {
  const put = []
  for (const { on, name: key, value } of pollutions) {
    const target = PROTOTYPES[on]
    const property = typeof key === 'string' ? key : Symbol[key.symbol]
    if (property === undefined || Object.hasOwn(target, property)) continue
    // Build all values first: building one must not see the properties of another.
    put.push([target, property, build(world, value)])
  }
  // The descriptor has no prototype, as Object.prototype may have a `get` or `set` by now.
  for (const [target, property, value] of put) {
    Object.defineProperty(target, property, {
      __proto__: null,
      value,
      writable: true,
      enumerable: true,
      configurable: true,
    })
  }
  try {
    return work()
  } finally {
    for (let index = 0; index < put.length; index++) {
      const entry = put[index]
      Reflect.deleteProperty(entry[0], entry[1])
    }
  }
}

/** Builds the value of a description. */
function build(world, description) {
  const { kind } = description
  switch (kind) {
    case 'word':
      return { undefined: undefined, null: null, true: true, false: false }[description.value]
    case 'number':
    case 'bigint':
    case 'string':
      return description.value
    case 'file':
      return `${world.directory}/${description.value}`
    case 'huge':
      return description.isNegative ? -world.huge : world.huge
    case 'symbol':
      return Symbol('a symbol')
    case 'function':
      return () => act(world, 'throw')
    case 'class':
      return class {}
    case 'date':
      return new Date(0)
    case 'map':
      return new Map([['timescale', 'tai']])
    case 'promise':
      return Promise.resolve(1)
    case 'regexp':
      return /x/
    case 'error':
      return new RangeError('an error')
    case 'signal':
      return new AbortController().signal
    case 'clonedToken':
      return structuredClone(world.token)
    case 'typed':
      return typed(world, description)
    case 'array':
      return Object.assign(
        new Array(description.items.length + description.holes),
        description.items.map((item) => build(world, item)),
      )
    case 'object':
      return object(world, description)
    case 'proxy':
      return proxied(world, description)
    case 'coercible':
      return coercible(world, description)
    case 'boxed':
      return Object(build(world, description.inner))
    case 'signalLike':
      return signalLike(world, description)
    case 'acting':
      return actingValue(world, description)
    default:
      // An object of the world, by its name.
      return world[kind]
  }
}

function typed(world, { type, storage, length, at, own, effect: what }) {
  const Type = TYPES[type]
  const bytes = 8 * MOST_ELEMENTS
  const isShared = storage === 'shared' || storage === 'growing'
  const isFixed = storage === 'plain' || storage === 'detached' || storage === 'shared'
  const buffer = new (isShared ? SharedArrayBuffer : ArrayBuffer)(
    storage === 'growing' ? bytes / 2 : bytes,
    isFixed ? undefined : { maxByteLength: 2 * bytes },
  )
  const tracks = storage === 'tracking' || storage === 'growing'
  const most = Math.min(length, MOST_ELEMENTS - at)
  const array = new Type(buffer, 8 * at, tracks ? undefined : most)
  if (storage === 'detached') structuredClone(buffer, { transfer: [buffer] })
  if (storage === 'shrunk') buffer.resize(8 * at)
  if (storage === 'growing') buffer.grow(bytes)
  world.arrays.push(array)
  const property = { length: 'length', tag: Symbol.toStringTag, iterator: Symbol.iterator }[own]
  if (property !== undefined) {
    Object.defineProperty(array, property, {
      __proto__: null,
      get: () => act(world, what) ?? 1000,
      configurable: true,
    })
  }
  if (own === 'constructor') array.constructor = { [Symbol.species]: () => act(world, what) }
  return array
}

function object(world, { prototype, entries, getters, hasSymbol }) {
  const made = { plain: {}, null: Object.create(null), inherits: Object.create({ abi: 'uapi' }) }[
    prototype
  ]
  // The descriptor has no prototype: a getter can build its value while Object.prototype is polluted.
  const define = (key, property) => {
    const common = { enumerable: true, configurable: true }
    return Object.defineProperty(made, key, { __proto__: null, ...property, ...common })
  }
  for (const [key, value] of entries) define(key, { value: build(world, value) })
  for (const [key, what, value] of getters) {
    define(key, {
      get() {
        act(world, what)
        return build(world, value)
      },
    })
  }
  if (hasSymbol) define(Symbol('of its own'), { value: 1 })
  return made
}

function proxied(world, { target, state, effect: what }) {
  const inner = build(world, target)
  const isObject = (typeof inner === 'object' && inner !== null) || typeof inner === 'function'
  const { proxy, revoke } = Proxy.revocable(
    isObject ? inner : {},
    state === 'acting' ? traps(world, what) : {},
  )
  if (state === 'revoked') revoke()
  return proxy
}

// Each trap has its effect and then answers as the target does. Another answer could break an invariant of
// proxies, and JavaScript would throw.
function traps(world, what) {
  const names = ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor', 'set']
  return Object.fromEntries(
    names.map((trap) => [
      trap,
      (...given) => {
        act(world, what)
        return Reflect[trap](...given)
      },
    ]),
  )
}

function actingValue(world, { inner, how, effect: what }) {
  const value = build(world, inner)
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value
  if (how === 'proxy') return new Proxy({ ...value }, traps(world, what))
  const made = {}
  for (const [key, own] of Object.entries(value)) {
    Object.defineProperty(made, key, {
      __proto__: null,
      get() {
        act(world, what)
        return own
      },
      enumerable: true,
    })
  }
  return made
}

function coercible(world, { gives, effect: what }) {
  const convert = () => {
    act(world, what)
    const given = build(world, gives)
    return typeof given === 'object' ? '0' : given
  }
  return { valueOf: convert, toString: convert, toJSON: convert, [Symbol.toPrimitive]: convert }
}

function signalLike(world, { aborted, effect: what, lacksRemove }) {
  return {
    get aborted() {
      const answer = build(world, aborted)
      return typeof answer === 'boolean' ? answer : false
    },
    addEventListener: () => act(world, what),
    ...(!lacksRemove && { removeEventListener() {} }),
  }
}

/** Has the effect that a description names. */
function act(world, what) {
  switch (what) {
    case 'throw':
      world.hasThrown = true
      throw MINE
    case 'close':
      world.clock?.close()
      world.scratch?.close()
      return
    case 'detach':
      for (const array of world.arrays) detach(array)
      return
    case 'shrink':
      for (const { buffer } of world.arrays) if (buffer.resizable) buffer.resize(0)
      return
    case 'reenter':
      return world.again()
    case 'gc':
      return void globalThis.gc?.()
  }
}

function detach({ buffer }) {
  if (buffer instanceof ArrayBuffer && !(buffer.byteLength === 0)) {
    structuredClone(buffer, { transfer: [buffer] })
  }
}

module.exports = { acting, anything, build, MINE, pollution, polluted }
