// Measures variants of the calls:
//
// - a nonDecreasing clock
// - a page with ticks of whole nanoseconds, where each result is next to a rounding limit
// - `isContinuous` with a different token each time
// - a result stored in an array of objects
//
// It is a process of its own, because V8 compiles a call differently after it has seen two kinds of it.
//
//   variants.mjs PAGE ROUNDS [PEERS.node]

import { createRequire } from 'node:module'
import { freeze, publish, report, vmclock, WHOLE_TICKS } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, peersFile] = process.argv.slice(2)
// A power of two, so that a mask of `i` selects one.
const TOKENS = 512

const publisher = publish(page)
const plain = vmclock.VmClock.open(page)
const nonDecreasing = vmclock.VmClock.open(page, { nonDecreasing: true })
freeze(`${page}-whole`, WHOLE_TICKS)
const whole = vmclock.VmClock.open(`${page}-whole`)
const wholeNonDecreasing = vmclock.VmClock.open(`${page}-whole`, { nonDecreasing: true })
const scope = {
  plain,
  nonDecreasing,
  whole,
  wholeNonDecreasing,
  token: plain.continuityToken(),
  tokens: Array.from({ length: TOKENS }, () => plain.continuityToken()),
  slots: new BigInt64Array(vmclock.READING_SLOT_COUNT),
  // In an array of objects V8 stores a double as an object.
  anything: [{}],
  ...(peersFile && createRequire(import.meta.url)(peersFile)),
}
const cases = {
  continuity: 'plain.continuityToken()',
  'isContinuous, one token': 'plain.isContinuous(token)',
  'isContinuous, other tokens': `plain.isContinuous(tokens[i & ${TOKENS - 1}])`,
  'nowMs kept': 'anything[0] = plain.nowMs()',
  'Date.now kept': 'anything[0] = Date.now()',
  ...(peersFile && { 'C no-op beside continuity': 'noop()' }),
}
for (const call of ['nowNs()', 'nowMs()', 'readInto(slots)', 'read()']) {
  const [name] = call.split('(')
  cases[`plain ${name}`] = `plain.${call}`
  cases[`nonDecreasing ${name}`] = `nonDecreasing.${call}`
  cases[`whole ${name}`] = `whole.${call}`
}
cases['whole nonDecreasing nowMs'] = 'wholeNonDecreasing.nowMs()'
report(measure(cases, scope, Number(rounds)))
publisher.close()
