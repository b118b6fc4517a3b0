// Draws random values in the main thread and three workers without end. After a restore it keeps those from calls
// that began or returned after it, until it has enough of each kind, and prints them as JSON, a kind a line.
//
//   node clone-draws.mjs protected|unprotected COUNT
//
// A protected call takes a last look at the page before it returns. A machine that is saved between that look and
// the next instruction of the caller shares the value with its clones, as values of before. The program knows such
// a value: the restore is there, and its listener was not called. It prints their number.

import crypto from 'node:crypto'
import net from 'node:net'
import { createInterface } from 'node:readline'
import tls from 'node:tls'
import { promisify } from 'node:util'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { VmClock } from 'vmclock'

const [mode, wanted] = isMainThread
  ? [process.argv[2], Number(process.argv[3])]
  : [workerData.mode, workerData.wanted]
const isProtected = mode === 'protected'

let hasSeenRestore = !isProtected
if (isProtected) {
  const { onRestore, protectRandomness } = await import('vmclock/clones')
  protectRandomness()
  onRestore(() => {
    hasSeenRestore = true
  })
}

const clock = VmClock.open('/dev/vmclock0')
const token = clock.continuityToken()
const isRestored = () => !clock.isContinuous(token)

const kept = {}
let atTheBoundary = 0

/** What is known of a restore at the return of a call. The look at the page calls the listener, if nothing did. */
function atReturn() {
  const hadSeenRestore = hasSeenRestore
  return { isAfter: isRestored(), hadSeenRestore }
}

function keep(kind, value, { isAfter, hadSeenRestore } = atReturn()) {
  if (!isAfter) return
  if (!hadSeenRestore) {
    atTheBoundary += 1
    return
  }
  kept[kind] ??= []
  if (kept[kind].length < wanted) kept[kind].push(hex(value))
}

function hex(value) {
  return typeof value === 'string' ? value : Buffer.from(value).toString('hex')
}

const synchronous = {
  randomBytes: () => crypto.randomBytes(16),
  randomFillSync: () => crypto.randomFillSync(new Uint8Array(16)),
  randomUUID: () => crypto.randomUUID(),
  getRandomValues: () => crypto.webcrypto.getRandomValues(new Uint8Array(16)),
  generateKeySync: () => crypto.generateKeySync('hmac', { length: 128 }).export(),
}

const { subtle } = crypto.webcrypto
const asynchronous = {
  'randomBytes, called back': (back) =>
    crypto.randomBytes(16, (error, bytes) => back(error ?? bytes)),
  'randomFill, called back': (back) =>
    crypto.randomFill(Buffer.alloc(16), (error, bytes) => back(error ?? bytes)),
  'generateKeyPair, called back': (back) =>
    crypto.generateKeyPair('ed25519', {}, (error, publicKey) => {
      const returned = atReturn()
      back(error ?? publicKey.export({ type: 'spki', format: 'der' }).subarray(-32), returned)
    }),
  'subtle.generateKey': (back) =>
    subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt']).then((key) => {
      // The export takes turns of the event loop.
      const returned = atReturn()
      return subtle.exportKey('raw', key).then((value) => back(value, returned))
    }, back),
}

function drawWithoutEnd(kinds, ended) {
  const turn = () => {
    for (const kind of kinds) keep(kind, synchronous[kind]())
    if (kinds.every((kind) => kept[kind]?.length === wanted)) return ended()
    setImmediate(turn)
  }
  turn()
}

function callBackWithoutEnd(kind, ended) {
  const again = () =>
    asynchronous[kind]((value, returned) => {
      if (value instanceof Error) throw value
      keep(kind, value, returned)
      if (kept[kind]?.length === wanted) ended()
      else again()
    })
  // More than libuv has threads, so that some are queued when the machine is saved.
  again()
  again()
}

if (!isMainThread) parentPort.postMessage('ready')
if (isMainThread) await main()
else if (workerData.isPlain) plainWorker()
else drawWithoutEnd(Object.keys(synchronous), () => parentPort.postMessage({ kept, atTheBoundary }))

// A worker that has loaded no protection: the process's covers it. It keeps calls that began after the restore.
function plainWorker() {
  const turn = () => {
    const hasBegun = isRestored()
    const value = crypto.randomBytes(16)
    if (hasBegun) {
      kept.randomBytes ??= []
      kept.randomBytes.push(hex(value))
    }
    if (kept.randomBytes?.length === wanted) parentPort.postMessage({ kept, atTheBoundary })
    else setImmediate(turn)
  }
  turn()
}

async function main() {
  // Anonymous ECDH needs no certificate.
  const insecure = { ciphers: 'AECDH-AES128-SHA:@SECLEVEL=0', maxVersion: 'TLSv1.2' }
  const server = tls.createServer(insecure).on('tlsClientError', () => {})
  await promisify(server.listen).call(server, 0, '127.0.0.1')
  const hello = await clientHello(insecure)

  const workers = ['worker 1', 'worker 2', 'plain worker'].map((name) => {
    const isPlain = name.startsWith('plain')
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { mode: isPlain ? 'unprotected' : mode, wanted, isPlain },
    })
    const message = () =>
      new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
    // Without its token from before the restore, a worker would see none.
    const isReady = message()
    return { isReady, drawn: isReady.then(message).then((drawn) => ({ name, ...drawn })) }
  })
  await Promise.all(workers.map(({ isReady }) => isReady))
  const own = [new Promise((resolve) => drawWithoutEnd(Object.keys(synchronous), resolve))].concat(
    Object.keys(asynchronous).map(
      (kind) => new Promise((resolve) => callBackWithoutEnd(kind, resolve)),
    ),
  )
  createInterface({ input: process.stdin }).on('line', (line) => {
    if (line === 'end') process.exit(0)
  })
  console.log('ready')

  await Promise.all(own)
  const { random, keyShare } = await serverHello(server.address().port, hello)
  kept['ServerHello.random'] = [random]
  kept['TLS key share'] = [keyShare]
  for (const thread of [
    { name: 'main', kept, atTheBoundary },
    ...(await Promise.all(workers.map(({ drawn }) => drawn))),
  ]) {
    for (const [kind, values] of Object.entries(thread.kept)) {
      print({ kind: `${thread.name}: ${kind}`, values })
    }
    print({ kind: `${thread.name}: at the boundary`, count: thread.atTheBoundary })
  }
  print({ kind: 'end' })
}

function print(line) {
  console.log(JSON.stringify(line))
}

// Returns the first message of a client, as a recording.
function clientHello(options) {
  return new Promise((resolve, reject) => {
    const recorder = net.createServer((socket) =>
      socket.once('data', (bytes) => {
        socket.destroy()
        recorder.close()
        resolve(bytes)
      }),
    )
    recorder.listen(0, '127.0.0.1', () => {
      tls
        .connect({ ...options, host: '127.0.0.1', port: recorder.address().port })
        .on('error', () => {})
    })
    recorder.on('error', reject)
  })
}

// Sends the recording, and returns what of the answer must be random. The last 8 bytes of the server's random may
// be fixed, to tell of a downgrade.
function serverHello(port, hello) {
  return new Promise((resolve, reject) => {
    let answer = Buffer.alloc(0)
    const socket = net.connect(port, '127.0.0.1', () => socket.write(hello))
    socket.on('error', reject).on('data', (bytes) => {
      answer = Buffer.concat([answer, bytes])
      const messages = handshake(answer)
      const [server, exchange] = [messages.get(2), messages.get(12)]
      if (server === undefined || exchange === undefined) return
      socket.destroy()
      // A named curve: its type, its number, and the length of the point.
      resolve({ random: hex(server.subarray(2, 26)), keyShare: hex(exchange.subarray(4)) })
    })
  })
}

// Returns the handshake messages in whole TLS records, by their types.
function handshake(bytes) {
  const messages = new Map()
  let content = Buffer.alloc(0)
  for (let at = 0; at + 5 <= bytes.length; ) {
    const end = at + 5 + bytes.readUInt16BE(at + 3)
    if (end > bytes.length) break
    if (bytes[at] === 22) content = Buffer.concat([content, bytes.subarray(at + 5, end)])
    at = end
  }
  for (let at = 0; at + 4 <= content.length; ) {
    const end = at + 4 + content.readUIntBE(at + 1, 3)
    if (end > content.length) break
    messages.set(content[at], content.subarray(at + 4, end))
    at = end
  }
  return messages
}
