// Checks machine code for the read protocol of `crate/core/src/seqlock.rs`. Each check returns its findings as
// texts. A *look* is a load of a sequence number with its comparison; the *last look* is the one behind the
// counter. A timestamp has two of them, at the page and at the device that guards it.

// Offsets in the page, as in `abi.rs` and `seqlock.rs`.
const SEQ_OFFSET = 12
const HEAD_OFFSET = 8
const WORD_OFFSETS = Array.from({ length: 12 }, (_, word) => 16 + 8 * word)
const EXTENSION_OFFSETS = Array.from({ length: 9 }, (_, word) => 0x800 + 8 * word)

/**
 * Checks a timestamp from the cache: the counter, a fence, and two comparisons with cached sequence numbers.
 *
 * @param refused - checks what follows another sequence number: `refusedIfMoved` for a callback of Node-API,
 * `unansweredIfMoved` for a function of the C interface
 */
export function checkStamp(code, refused = refusedIfMoved) {
  const { counter } = code.dialect
  const [at, ...more] = code.all(counter)
  if (at === undefined || more.length > 0)
    return [`${more.length + (at === undefined ? 0 : 2)} counter reads`]
  return [
    ...barriersBut(code, ['before', 'fence']),
    ...counterIsOrdered(code, at),
    ...twoLooks(code, at + 1, at, refused),
  ]
}

/** As {@link checkStamp}, for a counter that is read in no order: everything but the barrier before the counter. */
export function checkUnorderedStamp(code, refused = refusedIfMoved) {
  const { counter } = code.dialect
  const [at, ...more] = code.all(counter)
  if (at === undefined || more.length > 0)
    return [`${more.length + (at === undefined ? 0 : 2)} counter reads`]
  return [...barriersBut(code, ['fence']), ...twoLooks(code, at + 1, at, refused)]
}

// Checks the looks at the page and at its guard behind `start`, with numbers that were cached before `before`.
function twoLooks(code, start, before, refused) {
  const page = lastLook(code, start)
  if (page.fault) return [page.fault]
  const guard = lastLook(code, page.branch.same ?? code.length, page.fence)
  if (guard.fault) return [`at the guard: ${guard.fault}`]
  const looks = [page, guard]
  const [ofPage, ofGuard] = looks.map((look) => cachedAt(code, look))
  const isOne = ofPage !== undefined && ofPage === ofGuard
  return [
    ...looks.flatMap((look) => [
      ...cachedBefore(code, look, before ?? page.fence),
      ...refused(code, look),
    ]),
    ...(isOne ? ['both looks compare with the same cached number'] : []),
    ...(countLooks(code) === 2 ? [] : ['not two looks at sequence numbers']),
  ]
}

/** Checks a read of the counter alone. */
export function checkCounter(code) {
  const [at, ...more] = code.all(code.dialect.counter)
  if (at === undefined || more.length > 0) return ['not one counter read']
  return [...barriersBut(code, ['before']), ...counterIsOrdered(code, at)]
}

/** Checks a read of the counter alone, in no order: no barrier at all. */
export function checkUnorderedCounter(code) {
  const found = code.all(code.dialect.counter).length
  return [...(found === 1 ? [] : [`${found} counter reads`]), ...barriersBut(code, [])]
}

/** Checks the comparison of a token: a fence, and two comparisons with cached sequence numbers. */
export function checkToken(code, refused = refusedIfMoved) {
  return [
    ...(code.all(code.dialect.counter).length === 0 ? [] : ['reads the counter']),
    ...barriersBut(code, ['fence']),
    ...twoLooks(code, 0, undefined, refused),
  ]
}

/** Checks the read loop: sequence number, test for odd, fence, fields, counter, fence, the same number again. */
export function checkReadLoop(code) {
  const { dialect } = code
  const counters = code.all(dialect.counter)
  if (counters.length === 0) return ['no counter read']
  // A way with the extension and one without may share their first fence.
  const strayFences = new Set(code.all(dialect.fence))
  const faults = counters.flatMap((at) => {
    const look = lastLook(code, at + 1)
    if (look.fault) return [look.fault]
    strayFences.delete(look.fence)
    const isLook = (position) => isLookAt(code.dialect.load(code.text(position)), look.base)
    const between = range(at + 1, look.compare).filter((position) =>
      dialect.barrier.test(code.text(position)),
    )
    const faults = [...counterIsOrdered(code, at), ...acceptedOnlyIfSame(code, look, counters)]
    if (between.length !== 1) faults.push('a barrier besides the fence after the counter')
    for (const way of code.waysTo(at, isLook)) {
      const [first] = way
      if (!isLook(first)) faults.push('a way to the counter without a look at the sequence number')
      else faults.push(...checkWay(code, way, look))
      for (const position of way) strayFences.delete(position)
    }
    return faults
  })
  return [...faults, ...[...strayFences].map((at) => `a fence of no counter read, at ${at}`)]
}

// Checks a way from the first load of the sequence number to the counter.
function checkWay(code, way, look) {
  const { dialect } = code
  const faults = []
  const texts = way.map((at) => code.text(at))
  const first = dialect.load(texts[0])
  const fences = way.filter((at) => dialect.fence.test(code.text(at)))
  if (fences.length !== 1) return [`${fences.length} fences before the fields instead of 1`]
  const fence = way.indexOf(fences[0])
  if (!texts.slice(0, fence).some((text) => dialect.isOdd(text) === first.to)) {
    faults.push('fields are read under an odd sequence number')
  }
  const barriers = texts.filter((text) => dialect.barrier.test(text)).length
  if (barriers !== 2) faults.push(`${barriers} barriers up to the counter instead of 2`)
  const loads = texts
    .map((text) => dialect.load(text))
    .map((load) => (load?.base === look.base && !isExtension(load) ? load : undefined))
  if (loads.slice(1, fence).some(Boolean)) faults.push('a field is read before the fence')
  const fields = loads.slice(fence).filter(Boolean)
  const found = fields.map(({ offset, width }) => `${offset}/${width}`).sort()
  const wanted = [`${HEAD_OFFSET}/4`, ...WORD_OFFSETS.map((offset) => `${offset}/8`)].sort()
  if (found.join() !== wanted.join()) faults.push(`fields read (offset/bytes): ${found.join(' ')}`)
  faults.push(...checkExtension(code, way, fence))
  if (texts.some((text) => dialect.call.test(text) || dialect.division.test(text))) {
    faults.push('a call or a division among the fields')
  }
  // The last look compares with the number that the first load gave.
  const straight = [...way, ...range(way.at(-1) + 1, look.compare)]
  let register = look.other
  for (const at of straight.slice(1).reverse()) {
    const copy = dialect.copy(code.text(at))
    if (copy?.to === register) register = copy.from
    else if (at !== look.load && dialect.writes(code.text(at)).includes(register))
      register = undefined
  }
  if (register !== first.to) faults.push('the last look does not compare with the first')
  return faults
}

// Checks that the extension is read behind the fence, whole or not at all. Its address may have its own base.
function checkExtension(code, way, fence) {
  const positions = way.filter((at) => isExtension(code.dialect.load(code.text(at))))
  if (positions.some((at) => way.indexOf(at) < fence))
    return ['the extension is read before the fence']
  const found = positions.map((at) => code.dialect.load(code.text(at)).offset).sort()
  const isRight = found.length === 0 || found.join() === EXTENSION_OFFSETS.join()
  return isRight ? [] : [`of the extension is read: ${found.join(' ')}`]
}

/** Returns whether a load is of the extension's words. */
export function isExtension(load) {
  return load?.width === 8 && EXTENSION_OFFSETS.includes(load.offset)
}

// Finds the fence, the load of the sequence number and the comparison that follow `start` before any branch. The
// fence may come before `start`.
function lastLook(code, start, fenceBefore) {
  const { dialect } = code
  let fence = fenceBefore
  let load
  for (let at = start; at < code.length; at += 1) {
    const text = code.text(at)
    if (fence === undefined && dialect.fence.test(text)) fence = at
    else if (fence !== undefined) {
      const found = dialect.load(text)
      if (found?.offset === SEQ_OFFSET && found.width === 4) load = { at, ...found }
      const operands = dialect.compare(text)
      if (operands) {
        const direct = operands.map((operand) => /^12\(%(\w+)\)$/.exec(operand)?.[1])
        const index = load ? operands.indexOf(load.to) : direct.findIndex(Boolean)
        if (index < 0) break
        const base = load?.base ?? direct[index]
        const branch = branchAfter(code, at)
        if (branch === undefined) break
        return {
          fence,
          load: load?.at ?? at,
          base,
          compare: at,
          other: operands[1 - index],
          branch,
        }
      }
    }
    const branches =
      dialect.branch.test(text) || dialect.jump.test(text) || dialect.leaves.test(text)
    if (branches && (fence !== undefined || start > 0)) break
  }
  return {
    fault:
      fence === undefined
        ? 'no fence between the counter and the last look at the sequence number'
        : 'no look at the sequence number, or no comparison, after the fence',
  }
}

// Finds the branch behind a comparison. Copies in between do not change the flags.
function branchAfter(code, compare) {
  for (let at = compare + 1; at < code.length; at += 1) {
    const text = code.text(at)
    const isEqual = code.dialect.equal.test(text)
    if (isEqual || code.dialect.unequal.test(text)) {
      const [same, moved] = isEqual ? [code.target(at), at + 1] : [at + 1, code.target(at)]
      return { at, same, moved }
    }
    if (code.dialect.copy(text) === undefined) return undefined
  }
  return undefined
}

// Checks that the barrier is right before the counter, and that on aarch64 a load that waits for it follows.
function counterIsOrdered(code, at) {
  const { dialect } = code
  const faults = dialect.before.test(code.text(at - 1)) ? [] : ['the counter may be read early']
  const [, value] = /^mrs (x\d+),/.exec(code.text(at)) ?? []
  if (value === undefined) return faults
  const [, zero] = RegExp(`^eor (x\\d+), ${value}, ${value}$`).exec(code.text(at + 1)) ?? []
  const waits = zero !== undefined && code.text(at + 2) === `ldr xzr, [sp, ${zero}]`
  return waits ? faults : [...faults, 'no load waits for the counter']
}

// Checks that a timestamp has each named barrier once, and no other barrier.
function barriersBut(code, names) {
  const { dialect } = code
  const faults = names
    .filter((name) => code.all(dialect[name]).length !== 1)
    .map((name) => `${code.all(dialect[name]).length} of ${dialect[name]} instead of 1`)
  const others = code
    .all(dialect.barrier)
    .filter((at) => !names.some((name) => dialect[name].test(code.text(at))))
  return [...faults, ...others.map((at) => `an extra barrier: \`${code.text(at)}\``)]
}

// Returns where the number that a look compares with is loaded, if a register holds it.
function loadOfCached(code, look) {
  const written = range(0, look.compare).filter(
    (at) => at !== look.load && code.dialect.writes(code.text(at)).includes(look.other),
  )
  return written.at(-1)
}

// Returns the place of the number that a look compares with, as text.
function cachedAt(code, look) {
  if (!/^(r|x)\w+$/.test(look.other)) return look.other
  const at = loadOfCached(code, look)
  const load = at === undefined ? undefined : code.dialect.load(code.text(at))
  return load && `${load.offset}(${load.base})`
}

// Checks that the number compared with was loaded before `before`, and not from the page.
function cachedBefore(code, look, before) {
  const { dialect } = code
  if (/\(%rsp\)$/.test(look.other)) return ['the sequence number is compared with the stack']
  if (!/^(r|x)\w+$/.test(look.other)) return []
  const last = loadOfCached(code, look)
  const load = last === undefined ? undefined : dialect.load(code.text(last))
  const isCached =
    load !== undefined && load.width === 4 && load.offset !== SEQ_OFFSET && last < before
  return isCached ? [] : ['the sequence number is not compared with the cached one']
}

// Checks that a timestamp with another sequence number never returns by itself, and that only one with the same
// number has its counter converted by the slow path.
function refusedIfMoved(code, { branch }) {
  const makesStamp = (at) => /^ret|9callbacks17slow_from_counter/.test(code.text(at))
  const convertsCounter = (at) => /9callbacks17slow_from_counter/.test(code.text(at))
  const unlooked = code.reachable(0, (at) => at === branch.at)
  // The branch itself may leave the function.
  const moved = branch.moved === undefined ? [branch.at] : [...code.reachable(branch.moved)]
  return [
    ...(moved.some(makesStamp) ? ['makes a timestamp although the sequence number changed'] : []),
    ...([...unlooked].some(convertsCounter) ? ['has a counter converted without a look'] : []),
  ]
}

/**
 * Checks that a function of the C interface has no answer after another sequence number. Its first answer is the one
 * for a name that nobody has: that there is none.
 */
export function unansweredIfMoved(code, { branch }) {
  const { answer } = code.dialect
  const [none] = code.all(answer)
  if (none === undefined) return ['does not answer']
  const answers = code.all(answer).filter((at) => resultAt(code, at) !== resultAt(code, none))
  const moved = branch.moved === undefined ? new Set([branch.at]) : code.reachable(branch.moved)
  const reached = branch.same === undefined ? new Set() : code.reachable(branch.same)
  return [
    ...(answers.some((at) => at < branch.at || moved.has(at))
      ? ['answers although the sequence number changed']
      : []),
    ...(answers.some((at) => reached.has(at)) ? [] : ['does not answer with the same number']),
  ]
}

// Returns what an instruction makes the result, as text: a constant's name or number, or a register.
function resultAt(code, at) {
  const [, result] = /^\S+ (.*)$/.exec(code.text(at)) ?? []
  // On aarch64 a number comes by another register.
  const [, register] = /^d0, (x\d+)$/.exec(result) ?? []
  const [, number] = RegExp(`^mov ${register}, (#\\S+)$`).exec(code.text(at - 1)) ?? []
  return number ?? result
}

// Checks that the loop retries or gives up after another sequence number, and reaches the use of the fields only
// through another counter read. After the same number it does not retry.
function acceptedOnlyIfSame(code, { branch }, counters) {
  const isCounter = (at) => counters.includes(at)
  const looksAgain = (start) => [...code.reachable(start)].some(isCounter)
  const isRight =
    branch.same !== undefined &&
    !looksAgain(branch.same) &&
    looksAgain(branch.moved) &&
    !code.reachable(branch.moved, isCounter).has(branch.same)
  return isRight ? [] : ['fields are used although the sequence number changed']
}

function countLooks(code) {
  return range(0, code.length).filter((at) => {
    const text = code.text(at)
    const load = code.dialect.load(text)
    return isLookAt(load, load?.base) || /^cmpl 12\(%\w+\)/.test(text)
  }).length
}

function isLookAt(load, base) {
  return load?.offset === SEQ_OFFSET && load.width === 4 && load.base === base
}

function range(from, to) {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index)
}
