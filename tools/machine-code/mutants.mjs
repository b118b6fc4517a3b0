// Makes broken copies of a function. A check must refuse every one, which shows that it can fail.

import { isExtension } from './protocol.mjs'

/** Returns the names of the mutants of `code` that `check` does not refuse, and the number of all mutants. */
export function unseenMutants(code, check) {
  const mutants = [...mutantsOf(code)]
  const unseen = mutants.filter(({ mutant }) => check(mutant).length === 0)
  return { shown: mutants.length, unseen: unseen.map(({ name }) => name) }
}

function* mutantsOf(code) {
  const { dialect } = code
  const protocol = [...code.all(dialect.fence), ...code.all(dialect.counter)]
  for (const at of protocol) {
    yield dropped(code, at)
    yield {
      name: `a full barrier after ${code.text(at)}`,
      mutant: code.with(at + 1, 0, dialect.samples.barrier),
    }
  }
  for (const at of code.all(dialect.counter)) {
    if (dialect.before.test(code.text(at - 1))) yield dropped(code, at - 1)
    else
      yield { name: 'a fence before the counter', mutant: code.with(at, 0, dialect.samples.before) }
    for (const sample of ['call', 'division']) {
      const text = dialect.samples[sample]
      yield { name: `\`${text}\` before the counter`, mutant: code.with(at - 1, 0, text) }
    }
  }
  for (const fence of code.all(dialect.fence)) {
    const look = lookAfter(code, fence)
    if (look === undefined) continue
    const { load, compare, branch } = look
    for (const at of [load, compare, branch]) yield dropped(code, at)
    const moved = code.with(fence, 1).with(load, 0, code.text(fence))
    yield { name: 'the fence moved behind the second load of the sequence number', mutant: moved }
    const early = code.with(load, 1).with(fence, 0, code.text(load))
    yield { name: 'the second load of the sequence number moved ahead of the fence', mutant: early }
    yield inverted(code, branch)
    const [counter] = code.all(dialect.counter).filter((at) => at < branch)
    if (counter !== undefined) {
      const late = code.with(branch + 1, 0, code.text(counter)).with(counter, 1)
      yield { name: 'the counter moved behind a look', mutant: late }
    }
    yield* mutantsOfGuard(code, fence, branch)
    for (const at of code.all(/9callbacks14slow_from_page/)) {
      const counted = code.text(at).replace('14slow_from_page', '17slow_from_counter')
      yield { name: `a counter converted by \`${counted}\``, mutant: code.with(at, 1, counted) }
      const direct = `${dialect.samples.unequal} ${counted.split(' ').at(-1)}`
      yield { name: `a counter converted by \`${direct}\``, mutant: code.with(branch, 1, direct) }
    }
  }
}

/**
 * Returns the names of the read loop's own mutants that `check` does not refuse, and the number of all of them.
 * They are of its fields, its first fences, and its test for an odd number.
 */
export function loopMutantsUnseen(code, check) {
  const { dialect } = code
  const mutants = []
  for (const fence of code.all(dialect.fence)) {
    const first = dialect.load(code.text(fence + 1))
    if (first === undefined || first.offset === 12) continue
    const early = code.with(fence, 1).with(fence + 1, 0, code.text(fence))
    mutants.push({ name: 'the first fence moved behind a field', mutant: early })
    // The fields that follow until the counter. Spilled registers and the counter's barrier are between.
    for (let at = fence + 1; at < code.length && !dialect.counter.test(code.text(at)); at += 1) {
      if (dialect.load(code.text(at))?.base === first.base) mutants.push(dropped(code, at))
    }
  }
  for (const at of code.all(/./)) {
    if (isExtension(dialect.load(code.text(at)))) mutants.push(dropped(code, at))
  }
  for (const at of code.all(/./)) {
    const text = code.text(at)
    const before = dialect.load(code.text(at - 1))
    if (before?.offset !== 12 || before.base === 'sp' || before.to !== dialect.isOdd(text)) continue
    // A branch to the fields is made one that is always taken.
    const always = text.replace(/^tbz .* /, 'b ')
    mutants.push({
      name: `odd for even: \`${text}\``,
      mutant: always === text ? code.with(at, 1) : code.with(at, 1, always),
    })
  }
  const unseen = mutants.filter(({ mutant }) => check(mutant).length === 0)
  return { shown: mutants.length, unseen: unseen.map(({ name }) => name) }
}

// The mutants of the look at the guard, which follows the look at the page in a timestamp and a token.
function* mutantsOfGuard(code, fence, branchOfPage) {
  const look = lookAfter(code, branchOfPage)
  if (look === undefined) return
  const { load, compare, branch } = look
  for (const at of [load, compare, branch]) yield dropped(code, at)
  yield inverted(code, branch)
  const early = code.with(load, 1).with(fence, 0, code.text(load))
  yield { name: "the load of the guard's number moved ahead of the fence", mutant: early }
}

function inverted(code, branch) {
  const { equal, samples } = code.dialect
  const text = code.text(branch)
  const other = equal.test(text) ? samples.unequal : samples.equal
  const mutant = code.with(branch, 1, text.replace(/^\S+/, other))
  return { name: `${text} inverted`, mutant }
}

function dropped(code, at) {
  return { name: `without \`${code.text(at)}\``, mutant: code.with(at, 1) }
}

// Finds the second load of the sequence number behind a fence, if the fence is one before such a load.
function lookAfter(code, fence) {
  const { dialect } = code
  let load
  for (let at = fence + 1; at < fence + 8; at += 1) {
    const text = code.text(at)
    const found = dialect.load(text)
    if (found?.offset === 12 && found.width === 4) load = at
    if (load !== undefined && dialect.compare(text)) {
      const branch = [at + 1, at + 2].find((after) => dialect.branch.test(code.text(after)))
      return branch && { load, compare: at, branch }
    }
  }
  return undefined
}
