// Checks the machine code of a timestamp on both architectures, in the compiler's own assembly of the addon as
// it is released. The model checker shows that the protocol is right by Rust's memory model. This check shows
// that the compiled code has it: the order of loads, fences and counter read, the number of instructions, and
// no panic in the reader.
//
// `node tools/machine-code.mjs [ARCHITECTURE…]`.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { crossCompiler } from './aarch64.mjs'
import { asProgram, CommandFailed, rootDirectory, run, timed, Unavailable } from './command.mjs'
import { functionsOf, readAssembly } from './machine-code/assembly.mjs'
import { loopMutantsUnseen, unseenMutants } from './machine-code/mutants.mjs'
import {
  checkCounter,
  checkReadLoop,
  checkStamp,
  checkToken,
  checkUnorderedCounter,
  checkUnorderedStamp,
  unansweredIfMoved,
} from './machine-code/protocol.mjs'

// How many clocks have a callback of their own. One callback serves all others.
const PLACES = 16

// `atMost` limits the instructions on the longest way through a callback that does not take the slow path. It
// is the number that rustc 1.95 (x86-64) and 1.96 (aarch64) make, plus a tenth.
const calls = [
  { name: 'NowNs', check: checkStamp, atMost: { x64: 53, arm64: 61 } },
  { name: 'NowMs', check: checkStamp, atMost: { x64: 67, arm64: 76 } },
  { name: 'NowHrTime', check: checkStamp, atMost: { x64: 83, arm64: 87 } },
  { name: 'Read', check: checkStamp, atMost: { x64: 97, arm64: 97 } },
  { name: 'ReadCounter', check: checkCounter, atMost: { x64: 19, arm64: 23 } },
  ...[
    { name: 'NowNs', check: checkUnorderedStamp, atMost: { x64: 52, arm64: 58 } },
    { name: 'NowMs', check: checkUnorderedStamp, atMost: { x64: 66, arm64: 73 } },
    { name: 'NowHrTime', check: checkUnorderedStamp, atMost: { x64: 82, arm64: 83 } },
    { name: 'Read', check: checkUnorderedStamp, atMost: { x64: 96, arm64: 94 } },
    { name: 'ReadCounter', check: checkUnorderedCounter, atMost: { x64: 18, arm64: 20 } },
  ].map((call) => ({ ...call, order: 'Unordered' })),
  { name: 'IsContinuous', check: checkToken, atMost: { x64: 43, arm64: 47 } },
]

// The functions of the C interface. They also look up the clock by its name.
const answered = (check) => (code) => check(code, unansweredIfMoved)
const cFunctions = [
  { name: 'vmclock_now_ns', check: answered(checkStamp), atMost: { x64: 64, arm64: 72 } },
  { name: 'vmclock_now_ms', check: answered(checkStamp), atMost: { x64: 82, arm64: 88 } },
  { name: 'vmclock_now_hr_time', check: answered(checkStamp), atMost: { x64: 99, arm64: 99 } },
  { name: 'vmclock_read', check: answered(checkStamp), atMost: { x64: 107, arm64: 108 } },
  { name: 'vmclock_counter', check: checkCounter, atMost: { x64: 35, arm64: 35 } },
  ...[
    { name: 'now_ns', check: answered(checkUnorderedStamp), atMost: { x64: 63, arm64: 69 } },
    { name: 'now_ms', check: answered(checkUnorderedStamp), atMost: { x64: 81, arm64: 84 } },
    { name: 'now_hr_time', check: answered(checkUnorderedStamp), atMost: { x64: 97, arm64: 95 } },
    { name: 'read', check: answered(checkUnorderedStamp), atMost: { x64: 106, arm64: 105 } },
    { name: 'counter', check: checkUnorderedCounter, atMost: { x64: 34, arm64: 31 } },
  ].map((one) => ({ ...one, name: `vmclock_unordered_${one.name}` })),
  { name: 'vmclock_is_continuous', check: answered(checkToken), atMost: { x64: 56, arm64: 61 } },
]

// All code that a page or a call on an open clock can reach, except the code that describes a failure. Opening
// a file goes through the standard library, which has panics of its own.
const readerCode =
  /7vmclock(5clock.*7VmClock|4time(10conversion|6linear|4leap|5fixed)|7seqlock)|3hot9callbacks6finish/
const opening = /7VmClock4open/
const panic =
  /core(9panicking|6option1\d(unwrap|expect)_failed|6result13unwrap_failed|5slice5index)/

/** Checks the addon's callbacks and the read loop, on the architectures that are named. */
export async function checkMachineCode(architectures = ['x64', 'arm64']) {
  if (process.arch !== 'x64')
    throw new Unavailable('both architectures are compiled for on x86-64 only')
  const faults = []
  let broken = 0
  for (const architecture of architectures) {
    const file = await timed(`assembly for ${architecture}`, () => assemblyFor(architecture))
    const functions = functionsOf(readAssembly(readFileSync(file, 'utf8'), architecture))
    const fault = (name, text) => faults.push(`${architecture}: ${name}: ${text}`)
    for (const call of calls) broken += checkCallbacks(call, functions, architecture, fault)
    for (const one of cFunctions) {
      const own = functions.filter(({ symbol }) => symbol === one.name)
      if (own.length !== 1) fault(one.name, `${own.length} functions instead of 1`)
      broken += checkAll(one, own, architecture, fault)
    }
    const loops = functions.filter(({ symbol }) => /7seqlock9read_loop/.test(symbol))
    if (loops.length === 0) fault('read_loop', 'is not there')
    for (const loop of loops) {
      for (const text of checkReadLoop(loop)) fault('read_loop', text)
      broken += showThatItCanFail('read_loop', loop, checkReadLoop, fault, [
        unseenMutants,
        loopMutantsUnseen,
      ])
    }
    console.log(`${architecture}: read_loop: ${loops.length} loops`)
    checkPanics(functions, architecture, fault)
  }
  console.log(`${broken} broken copies of these functions, of which each must be refused`)
  if (faults.length > 0) throw new CommandFailed('machine code', [], `\n${faults.join('\n')}`)
}

// No number, page or argument makes the reader panic: its compiled code calls no panicking function.
function checkPanics(functions, architecture, fault) {
  const reader = functions.filter(({ symbol }) => readerCode.test(symbol) && !opening.test(symbol))
  for (const code of reader) {
    for (const at of code.all(panic)) fault(code.symbol, `\`${code.text(at)}\``)
  }
  const others = functions.filter((code) => code.all(panic).length > 0)
  console.log(`${architecture}: ${reader.length} functions of the reader have no panic`)
  if (reader.length < 20 || others.length === 0) fault('panics', 'too few functions were found')
}

function checkCallbacks(
  { name: call, order = 'Ordered', check, atMost },
  functions,
  architecture,
  fault,
) {
  const name = order === 'Ordered' ? call : `${call}, unordered`
  const [mangled, mangledOrder] = [call, order].map((word) => `${word.length}${word}`)
  const own = functions.filter(({ symbol }) => {
    const [, argument] = symbol.split('3hot9callbacks9invoke_at')
    return (
      argument !== undefined &&
      RegExp(`^NtNtB[0-9A-Za-z]*_5calls${mangled}Nt[0-9A-Za-z_]*${mangledOrder}K`).test(argument)
    )
  })
  if (own.length !== PLACES) fault(name, `${own.length} callbacks instead of ${PLACES}`)
  return checkAll({ name, check, atMost }, own, architecture, fault)
}

// Checks all copies of a function, and returns how many broken copies of them were made.
function checkAll({ name, check, atMost }, own, architecture, fault) {
  const faultsOf = (code) => [...check(code), ...code.strays()]
  let broken = 0
  const counts = own.map((code) => {
    for (const text of faultsOf(code)) fault(name, text)
    broken += showThatItCanFail(name, code, faultsOf, fault)
    return code.longestWay()
  })
  const most = Math.max(...counts)
  console.log(`${architecture}: ${name}: ${most} instructions, of ${atMost[architecture]}`)
  if (!(most <= atMost[architecture])) {
    fault(name, `${most} instructions, more than ${atMost[architecture]}`)
  }
  return broken
}

function showThatItCanFail(name, code, check, fault, kinds = [unseenMutants]) {
  let broken = 0
  for (const unseenOf of kinds) {
    const { shown, unseen } = unseenOf(code, check)
    broken += shown
    if (shown === 0) fault(name, 'there was nothing to break')
    for (const mutant of unseen) fault(name, `the check does not see ${mutant}`)
  }
  return broken
}

async function assemblyFor(architecture) {
  const isCross = architecture === 'arm64'
  const target = isCross ? 'aarch64-unknown-linux-gnu' : ''
  const compiler = isCross ? await crossCompiler() : {}
  // A directory of its own: cargo keeps one addon in each, and would build it again each time.
  const directory = join(rootDirectory, 'target/machine-code', architecture)
  await run(
    'cargo',
    [
      ...[
        'rustc',
        '--release',
        '-p',
        'vmclock-napi',
        '--lib',
        ...(isCross ? ['--target', target] : []),
      ],
      // Names that distinguish the callbacks. They change no instruction.
      ...['--', '--emit', 'asm', '-C', 'symbol-mangling-version=v0'],
    ],
    { env: { ...compiler, CARGO_TARGET_DIR: directory } },
  )
  const file = join(directory, target, 'release/deps/vmclock_napi.s')
  if (!existsSync(file)) throw new CommandFailed('cargo', ['rustc'], `left no ${file}`)
  return file
}

await asProgram(import.meta.url, (names) => checkMachineCode(names.length > 0 ? names : undefined))
