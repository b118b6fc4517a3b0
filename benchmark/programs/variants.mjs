// What a call costs when it is asked otherwise than most do: of a clock that never goes back, of a page
// with ticks of whole nanoseconds, all of which lie next to a border between two results, with tokens that
// the clock did not hold before, and for a result that is kept where anything may be. In a
// process of its own, because V8 compiles a call otherwise once it has seen two kinds of it.
//
// variants.mjs PAGE ROUNDS [PEERS.node]

import { createRequire } from 'node:module'
import { freeze, publish, report, vmclock, WHOLE_TICKS } from './page.mjs'
import { measure } from './rounds.mjs'

const [page, rounds, peersFile] = process.argv.slice(2)
// A power of two, for `i` to be cut to.
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
  // V8 keeps a double among other things as an object of its own.
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
