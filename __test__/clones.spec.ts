// After a restore no value is one that a clone has too. On this machine a restore is a new generation on a page.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VmClockPage } from 'vmclock/testing'
import { evaluate, isEmulated, rootDirectory, run, start } from './node-command'
import { newDirectory, newPath } from './pages'

/** The start of a program whose process is protected, and restored by `restore()`. */
function restorable(path: string, { isProtected = true } = {}): string {
  return `
    const crypto = require('node:crypto')
    const clones = require('vmclock/clones')
    const { VmClockPage } = require('vmclock/testing')
    const { native } = require(${JSON.stringify(join(rootDirectory, 'dist/shared.cjs'))})
    const draws = () => native().drawsOfThread()
    const page = VmClockPage.create(${JSON.stringify(path)}, { vmGenerationCounter: 1n, flags: 0x100n })
    let generation = 1n
    const restore = () => page.write({ vmGenerationCounter: ++generation })
    const print = (value) => console.log(JSON.stringify(value))
    ${isProtected ? `const protection = clones.protectRandomness({ path: page.path })` : ''}
  `
}

/** A program's own version of a function of `node:crypto`, which calls `during` once, between its draw and its return. */
function interruptible(name: 'randomBytes' | 'randomFillSync'): string {
  return `
    let during = () => {}
    {
      const module = require('node:crypto')
      const { ${name} } = module
      module.${name} = function (...args) {
        const value = ${name}.apply(this, args)
        const act = during
        during = () => {}
        act()
        return value
      }
    }
  `
}

test('every API draws after a reseed in its first call after a restore, and only then', async (t) => {
  const seen = await evaluate<Record<string, [number, number]>>(`${restorable(newPath(t))}
    const { webcrypto } = crypto
    const { publicKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 })
    const apis = {
      randomBytes: () => crypto.randomBytes(16),
      randomFillSync: () => crypto.randomFillSync(Buffer.alloc(16)),
      randomUUID: () => crypto.randomUUID(),
      webRandomUUID: () => webcrypto.randomUUID(),
      randomInt: () => crypto.randomInt(1e9),
      getRandomValues: () => webcrypto.getRandomValues(new Uint8Array(16)),
      moduleGetRandomValues: () => crypto.getRandomValues(new Uint8Array(16)),
      ec: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
      ed25519: () => crypto.generateKeyPairSync('ed25519'),
      ecdh: () => crypto.createECDH('prime256v1').generateKeys(),
      hmac: () => crypto.generateKeySync('hmac', { length: 256 }),
      prime: () => crypto.generatePrimeSync(64),
      encrypt: () => crypto.publicEncrypt(publicKey, Buffer.from('x')),
    }
    const seen = {}
    for (const [name, draw] of Object.entries(apis)) {
      draw()
      const before = protection.reseeds
      draw()
      const unrestored = protection.reseeds - before
      restore()
      draw()
      seen[name] = [unrestored, protection.reseeds - before]
    }
    print(seen)`)
  t.is(Object.keys(seen).length, 13)
  for (const [name, counts] of Object.entries(seen)) t.deepEqual(counts, [0, 1], name)
})

test('asynchronous draws and a TLS handshake come after a reseed too', async (t) => {
  const seen = await evaluate<Record<string, number>>(`${restorable(newPath(t))}
    const { promisify } = require('node:util')
    const tls = require('node:tls')
    const insecure = { ciphers: 'AECDH:@SECLEVEL=0', maxVersion: 'TLSv1.2' }
    const server = tls.createServer(insecure, (socket) => socket.end())
    const { subtle } = crypto.webcrypto
    const apis = {
      randomBytes: () => promisify(crypto.randomBytes)(16),
      randomFill: () => promisify(crypto.randomFill)(Buffer.alloc(16)),
      randomInt: () => promisify(crypto.randomInt)(1e9),
      generateKey: () => promisify(crypto.generateKey)('hmac', { length: 256 }),
      generateKeyPair: () => promisify(crypto.generateKeyPair)('ed25519'),
      generatePrime: () => promisify(crypto.generatePrime)(64),
      subtle: () => subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt']),
      tls: () => new Promise((resolve, reject) => tls
        .connect({ ...insecure, port: server.address().port, checkServerIdentity() {}, rejectUnauthorized: false })
        .on('error', reject).on('close', resolve).resume()),
    }
    server.listen(0, '127.0.0.1', async () => {
      const seen = {}
      for (const [name, draw] of Object.entries(apis)) {
        await draw()
        const before = protection.reseeds
        restore()
        await draw()
        seen[name] = protection.reseeds - before
      }
      print(seen)
      server.close()
    })`)
  t.is(Object.keys(seen).length, 8)
  for (const [name, reseeds] of Object.entries(seen)) t.is(reseeds, 1, name)
})

test('a value drawn before a restore is drawn again if it is returned after it', async (t) => {
  const [drawn, given, calls] = await evaluate<[string, string, number]>(`${restorable(newPath(t))}
    const bytes = Buffer.alloc(32)
    let calls = 0
    crypto.randomFill(bytes, (error, filled) => {
      calls += 1
      print([drawn, filled.toString('hex'), calls])
    })
    // Another thread fills the bytes, and this one calls back after the restore.
    while (bytes.every((byte) => byte === 0));
    while (bytes.subarray(16).every((byte) => byte === 0));
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    const drawn = bytes.toString('hex')
    restore()`)
  t.not(given, drawn)
  t.is(calls, 1)
})

test('ids and numbers that were cached before a restore are not given after it', async (t) => {
  const counts = await evaluate<number[][]>(`${restorable(newPath(t))}
    const counted = (draw) => {
      const before = draws()
      draw()
      return draws() - before
    }
    const counts = []
    for (const draw of [() => crypto.randomUUID(), () => crypto.randomInt(9), () => globalThis.crypto.randomUUID()]) {
      draw()
      const cached = counted(draw)
      restore()
      // Another look of this thread must not hide the restore from the cache.
      crypto.randomBytes(1)
      counts.push([cached, counted(draw), counted(draw)])
    }
    print(counts)`)
  t.deepEqual(counts, [
    [0, 1, 0],
    [0, 1, 0],
    [0, 1, 0],
  ])
})

test('a call that a listener interrupts by a draw of its own gives no value from before', async (t) => {
  const drawn = await evaluate<Record<string, unknown>>(`${restorable(newPath(t))}
    const calls = {
      randomUUID: () => crypto.randomUUID(),
      webRandomUUID: () => globalThis.crypto.randomUUID(),
      'randomUUID with options': () => crypto.randomUUID({}),
      randomInt: () => crypto.randomInt(2 ** 48 - 1),
    }
    const seen = {}
    for (const [name, call] of Object.entries(calls)) {
      call()
      const before = draws()
      let ofListener
      const remove = clones.onRestore(() => { ofListener = call() })
      restore()
      call()
      remove()
      // The listener's call fills the cache, and the interrupted one draws again.
      seen[name] = [ofListener !== undefined, draws() - before >= 2]
    }
    print(seen)`)
  t.is(Object.keys(drawn).length, 4)
  for (const [name, values] of Object.entries(drawn)) t.deepEqual(values, [true, true], name)
})

test('UUIDs of a protected process are of version 4, differ, and come from their pool in whole', async (t) => {
  const [uuids, drawn] = await evaluate<[string[], number]>(`${restorable(newPath(t))}
    const before = draws()
    const uuids = Array.from({ length: 1000 }, (_, at) => at % 2 === 0 ? crypto.randomUUID() : globalThis.crypto.randomUUID())
    print([uuids, draws() - before])`)
  for (const uuid of uuids)
    t.regex(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  t.is(new Set(uuids).size, 1000)
  // 128 a draw.
  t.is(drawn, 8)
  // No bit is fixed but those of version and variant.
  const bits = uuids.map((uuid) => BigInt(`0x${uuid.replaceAll('-', '')}`))
  const seen = (of: bigint[]) => of.reduce((all, one) => all | one, 0n).toString(2)
  const all = (1n << 128n) - 1n
  const [version, variant] = [0xfn << 76n, 0x3n << 62n]
  t.is(seen(bits), ((all ^ version ^ variant) | (4n << 76n) | (2n << 62n)).toString(2))
  t.is(seen(bits.map((one) => one ^ all)), (all ^ (4n << 76n) ^ (2n << 62n)).toString(2))
})

test('a caller that gets a number by callback gets none from the cache of before', async (t) => {
  const counts = await evaluate<number[]>(`${restorable(newPath(t))}
    crypto.randomInt(9)
    restore()
    const before = draws()
    crypto.randomInt(9, () => print([draws() - before]))`)
  t.deepEqual(counts, [1])
})

test('a number by callback is none of before a restore that comes between two looks', async (t) => {
  const counts = await evaluate<number[]>(`${restorable(newPath(t))}
    crypto.randomInt(9)
    // The call takes its callback off its arguments after its first look.
    const { slice } = Array.prototype
    let before
    Array.prototype.slice = function (...bounds) {
      if (before === undefined && bounds[1] === -1) {
        restore()
        before = draws()
      }
      return slice.apply(this, bounds)
    }
    crypto.randomInt(9, () => print([draws() - before]))`)
  t.deepEqual(counts, [1])
})

test('a UUID is refused if other code has taken the hook off, also for a restore during a draw', async (t) => {
  const seen = await evaluate<unknown[]>(`
    ${interruptible('randomFillSync')}
    ${restorable(newPath(t))}
    // The whole pool.
    for (let drawn = 0; drawn < 128; drawn++) crypto.randomUUID()
    native().unprotectOpenSsl()
    during = restore
    const seen = []
    for (let calls = 0; calls < 2; calls++) {
      try { seen.push(crypto.randomUUID()) } catch ({ code }) { seen.push(code) }
    }
    print(seen)`)
  t.deepEqual(seen, ['ERR_VMCLOCK_UNSUPPORTED', 'ERR_VMCLOCK_UNSUPPORTED'])
})

test('a UUID is refused if other code has taken the hook off, also while the page cannot be read', async (t) => {
  const code = await evaluate<string>(`${restorable(newPath(t))}
    // The whole pool.
    for (let drawn = 0; drawn < 128; drawn++) crypto.randomUUID()
    native().unprotectOpenSsl()
    page.begin()
    try { print(crypto.randomUUID()) } catch ({ code }) { print(code) }`)
  t.is(code, 'ERR_VMCLOCK_UNSUPPORTED')
})

test('wrapped functions keep names, lengths, errors and promisified forms', async (t) => {
  const [before, after] = await evaluate<unknown[]>(`
    const crypto = require('node:crypto')
    const { promisify } = require('node:util')
    const facts = () => [
      ...['randomBytes', 'randomFill', 'randomFillSync', 'randomInt', 'randomUUID', 'generateKeyPair'].map((name) =>
        [name, crypto[name].name, crypto[name].length, Object.keys(crypto).includes(name)]),
      ...[() => crypto.randomBytes(-1), () => crypto.randomBytes(1, 2), () => crypto.randomInt(0),
        () => crypto.randomUUID(1), () => crypto.webcrypto.getRandomValues.call({}, new Uint8Array(1)),
        () => crypto.randomFill(Buffer.alloc(1)), () => crypto.generateKeyPair('x', {}, () => {})].map((call) => {
          try { return typeof call() } catch (error) { return [error.code, error.name, error.message] } }),
      Reflect.ownKeys(crypto.generateKeyPair).map(String),
      promisify(crypto.generateKeyPair) === crypto.generateKeyPair[promisify.custom],
    ]
    const before = facts()
    require('vmclock/clones').protectRandomness()
    console.log(JSON.stringify([before, facts()]))`)
  t.deepEqual(after, before)
})

test('named imports of node:crypto are covered from the protection on', async (t) => {
  const { stdout, stderr } = await run([
    '--input-type=module',
    '-e',
    `import { randomUUID } from 'node:crypto'
    import { drain } from 'vmclock/clones'
    const original = randomUUID
    await import('vmclock/clones/protect')
    console.log(original === randomUUID)`,
  ])
  t.is(stdout, 'false\n', stderr)
})

test('perMachine makes a value once, and again at the first access after a restore', async (t) => {
  const seen = await evaluate<unknown[]>(`${restorable(newPath(t), { isProtected: false })}
    process.env.VMCLOCK_PATH = page.path
    let made = 0
    let during = () => {}
    const value = clones.perMachine(() => { made += 1; during(); return made })
    const seen = [made, value(), value(), (restore(), value()), value()]
    // A restore while the value is made: it is made again.
    restore()
    during = () => { during = () => {}; restore() }
    seen.push(value(), value())
    restore()
    during = () => { throw new RangeError('not now') }
    try { value() } catch (error) { seen.push(error.message) }
    during = () => {}
    seen.push(value(), value())
    print(seen)`)
  t.deepEqual(seen, [0, 1, 1, 2, 2, 4, 4, 'not now', 6, 6])
})

test('a listener that uses a value of the machine gets the one that stays', async (t) => {
  const seen = await evaluate<number[][]>(`${restorable(newPath(t), { isProtected: false })}
    const { VmClock } = require('vmclock')
    process.env.VMCLOCK_PATH = page.path
    const clock = VmClock.open(page.path)
    const seen = []
    for (const options of [{}, { clock }]) {
      let made = 0
      let during = () => {}
      const value = clones.perMachine(() => { made += 1; const now = made; during(); return now }, options)
      let ofListener
      const remove = clones.onRestore(() => { ofListener = value() })
      value()
      restore()
      seen.push([value(), ofListener, value()])
      // The restore comes while the value is made.
      restore()
      during = () => { during = () => {}; restore() }
      seen.push([value(), ofListener, value()])
      remove()
    }
    print(seen)`)
  t.is(seen.length, 4)
  for (const [value, ofListener, later] of seen) t.deepEqual([ofListener, later], [value, value])
})

for (const [how, act] of [
  ['the page shows', `VmClockPage.open(workerData.path).write({ vmGenerationCounter: 2n })`],
  ['somebody tells of', `require('vmclock/clones').notifyRestored()`],
] as const) {
  test(`a loop that does nothing but look sees a restore that ${how}`, async (t) => {
    const seen = await evaluate<number[]>(`${restorable(newPath(t), { isProtected: false })}
      process.env.VMCLOCK_PATH = page.path
      const { Worker } = require('node:worker_threads')
      let made = 0
      const value = clones.perMachine(() => ++made)
      // Long enough for V8 to compile the loop.
      for (let warm = 0; warm < 1e6; warm++) value()
      const looped = new Int32Array(new SharedArrayBuffer(4))
      new Worker(\`
        const { workerData } = require('node:worker_threads')
        const { VmClockPage } = require('vmclock/testing')
        while (Atomics.load(workerData.looped, 0) < 1000);
        ${act}\`,
        { eval: true, workerData: { looped, path: page.path } })
      while (value() === 1) looped[0]++
      print([made, value()])`)
    t.deepEqual(seen, [2, 2])
  })
}

for (const { flags, made, counts } of [
  { flags: '0x100n', made: 1, counts: 'generation' },
  { flags: '0n', made: 2, counts: 'marker' },
]) {
  test(`a new marker alone makes ${made} values of a page that counts by its ${counts}`, async (t) => {
    const seen = await evaluate<unknown[]>(`
      const { VmClockPage } = require('vmclock/testing')
      const { perMachine, protectRandomness } = require('vmclock/clones')
      const path = ${JSON.stringify(newPath(t))}
      const page = VmClockPage.create(path, { disruptionMarker: 1n, flags: ${flags} })
      process.env.VMCLOCK_PATH = path
      let made = 0
      const value = perMachine(() => ++made)
      const before = value()
      page.write({ disruptionMarker: 2n })
      console.log(JSON.stringify([before, value(), protectRandomness().signal.counts]))`)
    t.deepEqual(seen, [1, made, counts])
  })
}

test('listeners and the signal are called in the first draw, with the value still to come', async (t) => {
  const seen = await evaluate<unknown[]>(`${restorable(newPath(t))}
    const seen = []
    const remove = clones.onRestore(() => seen.push('removed'))
    clones.onRestore(({ restores }) => seen.push(restores))
    clones.onRestore(() => { throw new Error('of a listener') })
    clones.onRestore(() => seen.push('after it'))
    process.once('uncaughtException', ({ message }) => { seen.push(message); print(seen) })
    const signal = clones.restoreSignal()
    seen.push(signal === clones.restoreSignal(), signal.aborted)
    remove()
    restore()
    seen.push(signal.aborted)
    crypto.randomBytes(1)
    seen.push(signal.aborted, signal.reason.code, clones.restoreSignal() === signal, 'drawn')`)
  const expected = [
    true,
    false,
    false,
    1,
    'after it',
    true,
    'ERR_VMCLOCK_DISRUPTED',
    false,
    'drawn',
  ]
  t.deepEqual(seen, [...expected, 'of a listener'])
})

test('the first timestamp after a restore calls listeners before it returns, and only once', async (t) => {
  const seen = await evaluate<unknown[][]>(`${restorable(newPath(t), { isProtected: false })}
    const { VmClock, VmClockPublisher } = require('vmclock')
    const path = page.path + '-published'
    const publisher = VmClockPublisher.create(path, {
      allowUntrustedCounter: true, maxErrorNs: 1000n, generation: true,
    })
    process.env.VMCLOCK_PATH = path
    const clock = VmClock.open(path)
    const { conversions, slots } = { conversions: clock.counter(), slots: new BigInt64Array(13) }
    let heard = 0
    clones.onRestore(() => {
      heard += 1
      // A call of the listener uses the memory that the interrupted one uses.
      if (clock.nowNs() < 1n) throw new Error('no time')
    })
    const token = clock.continuityToken()
    const calls = {
      nowNs: () => clock.nowNs() > 0n,
      nowMs: () => clock.nowMs() > 0,
      read: () => clock.read().vmGeneration > 0n,
      tryRead: () => clock.tryRead().vmGeneration > 0n,
      readInto: () => { clock.readInto(slots); return slots[0] > 0n },
      isUsable: () => clock.isUsable,
      continuityToken: () => clock.continuityToken().vmGeneration > token.vmGeneration,
      isContinuous: () => !clock.isContinuous(token),
      convert: () => { try { clock.convert(conversions, token) } catch ({ code }) { return code === 'ERR_VMCLOCK_DISRUPTED' } },
      convertInto: () => {
        try {
          clock.convertInto(new BigUint64Array(1), new BigInt64Array(1), token)
        } catch ({ code }) {
          return code === 'ERR_VMCLOCK_DISRUPTED'
        }
      },
      // These read the page, and the next stamp does not.
      hasTime: () => clock.hasTime,
      timeSource: () => clock.timeSource.kind === 'path',
      snapshot: () => clock.snapshot().vmGeneration > token.vmGeneration,
      systemOffset: () => typeof clock.systemOffset().offsetNs === 'bigint',
    }
    const seen = []
    for (const [name, call] of Object.entries(calls)) {
      call()
      const before = heard
      publisher.bumpGeneration()
      const answers = [call(), heard - before, call(), heard - before]
      seen.push([name, ...answers])
    }
    publisher.close()
    clock.close()
    print(seen)`)
  t.is(seen.length, 14)
  for (const [name, ...answers] of seen) t.deepEqual(answers, [true, 1, true, 1], `${name}`)
})

test('an array that a listener takes away is refused, not left without figures', async (t) => {
  const seen = await evaluate<unknown[]>(`${restorable(newPath(t), { isProtected: false })}
    const { VmClock } = require('vmclock')
    process.env.VMCLOCK_PATH = page.path
    page.write({
      counterId: process.arch === 'arm64' ? 0 : 1, timeType: 0, clockStatus: 2,
      counterPeriodShift: 127, counterPeriodFracSec: 1n,
    })
    const clock = VmClock.open(page.path, { calls: 'node-api' })
    const slots = new BigInt64Array(13)
    clones.onRestore(() => structuredClone(slots, { transfer: [slots.buffer] }))
    clock.readInto(slots)
    restore()
    try {
      clock.readInto(slots)
    } catch ({ code, message }) {
      print([code, message])
    }`)
  t.is(seen[0], 'ERR_VMCLOCK_INVALID_ARGUMENT')
  t.regex(`${seen[1]}`, /detached/)
})

test('a thread without draws hears of a restore in its event loop, and ends by itself', async (t) => {
  const seen = await evaluate<number[]>(`${restorable(newPath(t), { isProtected: false })}
    process.env.VMCLOCK_PATH = page.path
    const { Worker } = require('node:worker_threads')
    const worker = new Worker(\`
      const { parentPort } = require('node:worker_threads')
      require('vmclock/clones').onRestore(({ restores }) => parentPort.postMessage(restores))
      parentPort.once('message', () => {})
      parentPort.postMessage('ready')\`, { eval: true })
    const heard = []
    worker.on('message', (message) => {
      if (message === 'ready') return restore()
      heard.push(message)
      if (heard.length === 1) return clones.notifyRestored()
      worker.postMessage('end')
    })
    worker.on('exit', (code) => print([...heard, code]))`)
  t.deepEqual(seen, [1, 2, 0])
})

test('listeners are called in the turn of the event loop in which the restore came', async (t) => {
  const seen = await evaluate<boolean>(`${restorable(newPath(t), { isProtected: false })}
    process.env.VMCLOCK_PATH = page.path
    let isHeard = false
    clones.onRestore(() => { isHeard = true })
    require('node:fs').stat('.', () => {
      restore()
      setImmediate(() => print(isHeard))
    })`)
  t.true(seen)
})

test('a process with listeners, a signal and a protection ends by itself', async (t) => {
  const seen = await evaluate<string>(`${restorable(newPath(t))}
    clones.onRestore(() => {})
    clones.restoreSignal()
    print('end')`)
  t.is(seen, 'end')
})

test('draws of a process whose page is stuck in an update are reseeded one by one', async (t) => {
  const [reseeds, code, after] = await evaluate<[number, string, number]>(`${restorable(newPath(t))}
    const value = clones.perMachine(() => 1)
    value()
    page.begin()
    let code
    try { value() } catch (error) { code = error.code }
    const before = protection.reseeds
    crypto.randomBytes(16); crypto.randomUUID(); crypto.randomInt(9)
    const reseeds = protection.reseeds - before
    page.end()
    value()
    const settled = protection.reseeds
    crypto.randomBytes(16); crypto.randomUUID(); crypto.randomInt(9)
    print([reseeds, code, protection.reseeds - settled])`)
  t.true(reseeds >= 3, `${reseeds}`)
  t.is(code, 'ERR_VMCLOCK_TIMEOUT')
  t.true(after <= 1, `${after}`)
})

test('nothing is cached for a page that was never readable since the protection was loaded', async (t) => {
  const reseeds = await evaluate<number[]>(`${restorable(newPath(t))}
    page.begin()
    const counts = []
    for (let at = 0; at < 3; at++) {
      for (const draw of [() => crypto.randomUUID(), () => crypto.randomInt(9)]) {
        const before = protection.reseeds
        draw()
        counts.push(Math.sign(protection.reseeds - before))
      }
    }
    print(counts)`)
  t.deepEqual(reseeds, [1, 1, 1, 1, 1, 1])
})

test('a hundred thousand reseeds leak neither memory nor descriptors', async (t) => {
  const [descriptors, kilobytes] = await evaluate<[number, number]>(
    `${restorable(newPath(t))}
    const { readdirSync, readFileSync } = require('node:fs')
    const one = Buffer.alloc(16)
    const round = (count) => {
      for (let at = 0; at < count; at++) { restore(); crypto.randomFillSync(one) }
      gc()
      return [readdirSync('/proc/self/fd').length, Number(/VmRSS:\\s*(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1])]
    }
    const before = round(10_000)
    const after = round(100_000)
    print([after[0] - before[0], after[1] - before[1]])`,
    ['--expose-gc'],
  )
  t.is(descriptors, 0)
  // 100 bytes a reseed would be 9,800 kB.
  t.true(kilobytes < 5000, `${kilobytes} kB`)
})

test('eight threads that draw during restores get values that all differ', async (t) => {
  const [values, different, reseeds] = await evaluate<[number, number, number]>(
    `${restorable(newPath(t))}
    const values = new Set()
    let drawn = 0
    const most = 20_000
    const draw = () => {
      if (drawn % 10 === 0) restore()
      if (drawn++ >= most) return
      const bytes = Buffer.alloc(16)
      crypto.randomFill(bytes, (error) => {
        if (error) throw error
        values.add(bytes.toString('hex'))
        draw()
      })
    }
    for (let thread = 0; thread < 64; thread++) draw()
    process.once('exit', () => print([most, values.size, protection.reseeds]))`,
    [],
    { env: { UV_THREADPOOL_SIZE: '8' } },
  )
  t.is(different, values)
  t.true(reseeds > 100, `${reseeds}`)
})

test('the hook outlives a worker that loaded it first and alone', async (t) => {
  const copy = join(newDirectory(t), 'another.node')
  const drawn = await evaluate<number>(`
    const { copyFileSync, readFileSync } = require('node:fs')
    const { Worker } = require('node:worker_threads')
    const ended = (program) => new Promise((resolve, reject) =>
      new Worker(program, { eval: true }).on('error', reject).on('exit', resolve))
    ;(async () => {
      await ended("require('vmclock/clones').protectRandomness()")
      const [addon] = /\\/.*\\.node$/m.exec(readFileSync('/proc/self/maps', 'utf8'))
      // The loader unloads what nobody has open when the last user of any library closes that.
      copyFileSync(addon, ${JSON.stringify(copy)})
      await ended(${JSON.stringify(`process.dlopen({ exports: {} }, ${JSON.stringify(copy)})`)})
      console.log(JSON.stringify(require('node:crypto').randomBytes(16).length))
    })()`)
  t.is(drawn, 16)
})

test('a protection counts for draws of threads that know nothing of it', async (t) => {
  const [reseeds] = await evaluate<[number]>(`${restorable(newPath(t))}
    const { Worker } = require('node:worker_threads')
    const before = protection.reseeds
    restore()
    new Worker("require('node:crypto').randomBytes(16)", { eval: true })
      .on('exit', () => print([protection.reseeds - before]))`)
  t.is(reseeds, 1)
})

test('import, require, protect and a second call give one protection', async (t) => {
  const { stdout, stderr } = await run([
    ...['--import', 'vmclock/clones/protect', '--input-type=module', '-e'],
    `import { createRequire } from 'node:module'
    import { protectRandomness } from 'vmclock/clones'
    import { protection } from 'vmclock/clones/protect'
    import { randomUUID } from 'node:crypto'
    const require = createRequire(process.cwd() + '/')
    const before = randomUUID
    console.log(protectRandomness() === protection,
      require('vmclock/clones').protectRandomness({ onNoEntropy: 'warn' }) === protection,
      require('vmclock/clones/protect').protection === protection,
      require('node:crypto').randomUUID === before, protection.active, protection.reseeds)`,
  ])
  t.is(stdout, 'true true true true true 1\n', stderr)
})

for (const { how, isEval } of [
  { how: '--import', isEval: false },
  { how: '--require', isEval: false },
  // Node runs no `--import` in a worker whose program is a string.
  { how: '--require', isEval: true },
]) {
  test(`a worker ${isEval ? 'of a string' : 'of a file'} inherits ${how} vmclock/clones/protect`, async (t) => {
    const program = `
      const { randomUUID } = require('node:crypto')
      const { native } = require(${JSON.stringify(join(rootDirectory, 'dist/shared.cjs'))})
      const draws = () => {
        const before = native().drawsOfThread()
        randomUUID()
        return native().drawsOfThread() - before
      }
      randomUUID()
      const cached = draws()
      native().notifyRestored(false)
      console.log(JSON.stringify([cached, draws()]))`
    const directory = newDirectory(t)
    const [file, main] = [join(directory, 'worker.cjs'), join(directory, 'main.cjs')]
    writeFileSync(file, program)
    writeFileSync(
      main,
      `const { Worker } = require('node:worker_threads')
      new Worker(${JSON.stringify(isEval ? program : file)}, { eval: ${isEval} })`,
    )
    const { stdout, stderr } = await run([how, 'vmclock/clones/protect', main])
    t.is(stdout, '[0,1]\n', stderr)
  })
}

test('the protection works with --openssl-shared-config', async (t) => {
  const active = await evaluate<boolean>(
    `console.log(JSON.stringify(require('vmclock/clones').protectRandomness().active))`,
    ['--openssl-shared-config'],
  )
  t.true(active)
})

test('under the permission model the protection needs addons and its page, and no more', async (t) => {
  const flag = ['--permission', '--experimental-permission'].find((name) =>
    process.allowedNodeEnvironmentFlags.has(name),
  )
  if (flag === undefined) {
    t.log(`not shown: Node ${process.version} has no permission model`)
    t.pass()
    return
  }
  const path = newPath(t)
  VmClockPage.create(path, { vmGenerationCounter: 1n, flags: 0x100n }).close()
  const words = [flag, '--allow-addons', '--no-warnings']
  const readable = [rootDirectory, path].map((name) => `--allow-fs-read=${name}`)
  const [active, drawn, refused] = await evaluate<[boolean, number, string]>(
    `const { protectRandomness, onRestore, perMachine } = require(${JSON.stringify(join(rootDirectory, 'dist/clones.cjs'))})
    const protection = protectRandomness({ path: ${JSON.stringify(path)} })
    onRestore(() => {})
    const value = perMachine(() => require('node:crypto').randomBytes(16).length)
    try { require('node:fs').readFileSync('/etc/passwd') } catch ({ code }) {
      console.log(JSON.stringify([protection.active, value(), code]))
    }`,
    [...words, ...readable],
  )
  t.deepEqual([active, drawn, refused], [true, 16, 'ERR_ACCESS_DENIED'])
})

test('without the right to load addons, the protection is refused', async (t) => {
  const code = await evaluate<string>(
    `try { require('vmclock/clones').protectRandomness() } catch (error) { console.log(JSON.stringify(error.code)) }`,
    ['--no-addons'],
  )
  t.is(code, 'ERR_VMCLOCK_NATIVE')
})

test('another path than the process looks at is refused, and no path is the same one', async (t) => {
  const [codes, path] = await evaluate<[string[], string]>(`${restorable(newPath(t))}
    const codes = [{ path: '/dev/null' }, { path: '' }, { onNoEntropy: 'never' }, { pth: '' }, 7].map((options) => {
      try { clones.protectRandomness(options) } catch (error) { return error.code }
    })
    print([codes, clones.protectRandomness().signal.path === page.path])`)
  t.deepEqual(codes, Array(5).fill('ERR_VMCLOCK_INVALID_ARGUMENT'))
  t.true(path)
})

test('with other code’s RAND_METHOD the protection is refused, and that method stays', async (t) => {
  const directory = newDirectory(t)
  const [source, library] = [join(directory, 'foreign.c'), join(directory, 'foreign.node')]
  writeFileSync(
    source,
    `typedef struct { void *seed, *bytes, *cleanup, *add, *pseudorand, *status; } method;
    extern int RAND_set_rand_method(const method *);
    extern const method *RAND_OpenSSL(void);
    static method mine;
    __attribute__((constructor)) static void begin(void) {
      mine = *RAND_OpenSSL();
      RAND_set_rand_method(&mine);
    }`,
  )
  const built = isEmulated
    ? undefined
    : spawnSync('cc', ['-shared', '-fPIC', '-Wl,-z,nodelete', '-o', library, source])
  if (built?.status !== 0) {
    t.log(`not shown: ${isEmulated ? 'emulated' : 'no C compiler'}`)
    t.pass()
    return
  }
  const load = `try { process.dlopen({ exports: {} }, ${JSON.stringify(library)}) } catch {}`
  const [code, message, length] = await evaluate<[string, string, number]>(`${load}
    const crypto = require('node:crypto')
    const before = crypto.randomUUID
    try { require('vmclock/clones').protectRandomness() } catch ({ code, message }) {
      console.log(JSON.stringify([code, message, crypto.randomBytes(16).length, before === crypto.randomUUID]))
    }`)
  t.is(code, 'ERR_VMCLOCK_UNSUPPORTED')
  t.regex(message, /other code has installed a RAND_METHOD/)
  t.is(length, 16)
  // One that comes later is not noticed by the draws, but by whoever asks.
  const active = await evaluate<boolean[]>(`
    const protection = require('vmclock/clones').protectRandomness()
    const before = protection.active
    ${load}
    console.log(JSON.stringify([before, protection.active]))`)
  t.deepEqual(active, [true, false])
  // A cache that can no longer be emptied is not used after a restore.
  const codes = await evaluate<string[]>(`
    const clones = require('vmclock/clones')
    clones.protectRandomness()
    const crypto = require('node:crypto')
    const draws = [() => crypto.randomUUID(), () => crypto.randomInt(9)]
    for (const draw of draws) draw()
    ${load}
    clones.notifyRestored()
    console.log(JSON.stringify(draws.map((draw) => { try { return draw() } catch ({ code }) { return code } })))`)
  t.deepEqual(codes, ['ERR_VMCLOCK_UNSUPPORTED', 'ERR_VMCLOCK_UNSUPPORTED'])
})

for (const { what, config, reason } of [
  {
    what: 'the FIPS provider',
    // The random generator itself needs no provider, so that Node starts without one.
    config: [
      'alg_section = a',
      'random = r',
      '[a]',
      'fips_mode = yes',
      '[r]',
      'properties = -fips',
    ],
    reason: /uses the FIPS provider/,
  },
  {
    what: 'a generator of 128 bits',
    config: ['random = r', '[r]', 'cipher = AES-128-CTR'],
    reason: /a generator of less than 256 bits/,
  },
]) {
  test(`with ${what} the protection is refused, and draws go on as before`, async (t) => {
    const file = join(newDirectory(t), 'openssl.cnf')
    writeFileSync(file, ['nodejs_conf = n', '[n]', ...config, ''].join('\n'))
    const [code, message, remains, length] = await evaluate<[string, string, boolean, number]>(
      `const crypto = require('node:crypto')
      const before = crypto.randomUUID
      try { require('vmclock/clones').protectRandomness() } catch ({ code, message }) {
        console.log(JSON.stringify([code, message, before === crypto.randomUUID, crypto.randomBytes(16).length]))
      }`,
      [`--openssl-config=${file}`],
    )
    t.is(code, 'ERR_VMCLOCK_UNSUPPORTED')
    t.regex(message, reason)
    t.deepEqual([remains, length], [true, 16])
  })
}

test('a UUIDv7 source is in order, and goes on in order with other bits after a restore', async (t) => {
  const seen = await evaluate<{ ids: string[]; restored: string[]; refused: string[] }>(
    `${restorable(newPath(t))}
    let now = 1767225600000
    const source = clones.uuidV7Source({ nowMs: () => now })
    const take = (count) => Array.from({ length: count }, source)
    const ids = take(1000)
    now += 0.5
    ids.push(...take(10))
    now -= 5000
    ids.push(...take(10))
    restore()
    const restored = take(10)
    const refused = [-1, 2 ** 48, NaN].map((time) => {
      try { clones.uuidV7Source({ nowMs: () => time })() } catch (error) { return error.code }
    })
    print({ ids, restored, refused })`,
  )
  const all = [...seen.ids, ...seen.restored]
  t.deepEqual(all, [...all].sort())
  t.is(new Set(all).size, all.length)
  for (const id of all)
    t.regex(id, /^019b76da-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  // The time, and then all 73 random bits.
  const [last, first] = [seen.ids.at(-1) ?? '', seen.restored[0] ?? '']
  t.is(
    BigInt(`0x${first.slice(0, 13).replace('-', '')}`),
    BigInt(`0x${last.slice(0, 13).replace('-', '')}`) + 1n,
  )
  t.not(first.slice(14, 23), last.slice(14, 23))
  t.deepEqual(seen.refused, Array(3).fill('ERR_VMCLOCK_INVALID_ARGUMENT'))
})

test('a UUIDv7 source is in order if a listener makes an id while another one is made', async (t) => {
  const [first, ofListener, second, third] = await evaluate<string[]>(`
    ${interruptible('randomBytes')}
    ${restorable(newPath(t))}
    const next = clones.uuidV7Source({ nowMs: () => 1000 })
    let ofListener
    clones.onRestore(() => { ofListener = next() })
    const first = next()
    during = restore
    const second = next()
    print([first, ofListener, second, next()])`)
  const inOrder = [first, ofListener, second, third] as string[]
  t.deepEqual(inOrder.slice().sort(), inOrder)
  t.is(new Set(inOrder).size, 4)
  const randomBits = (id = '') => BigInt(`0x${id.replaceAll('-', '')}`) & ((1n << 62n) - 1n)
  // One step is at most 2^32.
  t.true(
    randomBits(second) - randomBits(first) > 2n ** 40n || randomBits(second) < randomBits(first),
  )
})

test('a pool that never draws is reported, not drained for ever', async (t) => {
  const code = await evaluate<string>(`${restorable(newPath(t))}
    try { clones.drain(() => 1) } catch (error) { print(error.code) }`)
  t.is(code, 'ERR_VMCLOCK_UNSUPPORTED')
})

test('a forked child process is protected by itself', async (t) => {
  const running = start([
    ...['--import', 'vmclock/clones/protect', '-e'],
    `console.log(require('vmclock/clones').protectRandomness().reseeds)`,
  ])
  running.child.stdin.end()
  t.is(await running.line(), '1')
})
