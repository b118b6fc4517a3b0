// Reads functions from LLVM's assembly text (AT&T syntax on x86-64), as instructions and the ways between
// them. `dialects` recognizes the instructions that matter to the read protocol.

const registerParts = [
  ...['a', 'b', 'c', 'd'].map((x) => [`r${x}x`, `e${x}x`, `${x}x`, `${x}l`, `${x}h`]),
  ...['si', 'di', 'bp', 'sp'].map((x) => [`r${x}`, `e${x}`, x, `${x}l`]),
  ...Array.from({ length: 8 }, (_, n) => [`r${n + 8}`, `r${n + 8}d`, `r${n + 8}w`, `r${n + 8}b`]),
]
const wholeRegister = new Map(
  registerParts.flatMap(([whole, ...parts]) => [whole, ...parts].map((name) => [name, whole])),
)

// How each architecture writes these instructions. A load's `width` is in bytes.
const dialects = {
  x64: {
    // LLVM leaves this comment for a fence without an instruction. The compiler moved nothing across it.
    keep: (line) => line.replace(/^#MEMBARRIER$/, 'fence'),
    comment: /\s*#.*$/,
    fence: /^fence$/,
    before: /^lfence$/,
    counter: /^rdtscp?$/,
    // A `lock` prefix and an exchange with memory are barriers too.
    barrier: /^([lms]fence|fence|lock\b|xchg[bwlq]? .*\(|serialize|cpuid)/,
    division: /^i?div[bwlq]? |^v?div[ps][sd] |div[dtmo][if]3/,
    call: /^call/,
    leaves: /^(ret|ud2)/,
    jump: /^jmpq? (\S+)/,
    branch: /^j(?!mp)[a-z]+ (\S+)/,
    // Writes the result of a function that returns a double.
    answer: /^mov.*, %xmm0$/,
    equal: /^je /,
    unequal: /^jne /,
    load(text) {
      const [, width, offset, base, to] = /^mov([lq]) (\d*)\(%(\w+)\), %(\w+)$/.exec(text) ?? []
      if (base === 'rsp') return undefined
      return to && { width: width === 'l' ? 4 : 8, offset: Number(offset), base, to: whole(to) }
    },
    // Values that do not fit into registers are spilled to the stack and loaded from there.
    copy(text) {
      const [, from, to] = /^mov[lq] (%\w+|\d*\(%rsp\)), (%\w+|\d*\(%rsp\))$/.exec(text) ?? []
      return to && { from: whole(from.replace(/^%/, '')), to: whole(to.replace(/^%/, '')) }
    },
    compare(text) {
      const [, left, right] = /^cmpl (.+), (%\w+|\d*\(.*\))$/.exec(text) ?? []
      return (
        left &&
        [left, right].map((operand) =>
          operand.startsWith('%') ? whole(operand.slice(1)) : operand,
        )
      )
    },
    samples: {
      barrier: 'mfence',
      before: 'lfence',
      call: 'callq clock_gettime@PLT',
      division: 'divq %rcx',
      equal: 'je',
      unequal: 'jne',
    },
    isOdd(text) {
      const [, register] = /^testb \$1, %(\w+)$/.exec(text) ?? []
      return register && whole(register)
    },
    writes(text) {
      if (/^rdtsc/.test(text)) return ['rax', 'rdx']
      if (/^(cmp|test|j|lfence|fence|push)/.test(text)) return []
      const [, to] = /(?:%|, )(\w+|\d*\(%rsp\))$/.exec(text) ?? []
      return to ? [whole(to)] : []
    },
  },
  arm64: {
    keep: (line) => line,
    comment: /\s*\/\/.*$/,
    fence: /^dmb ishld$/,
    before: /^isb$/,
    counter: /^mrs x\d+, cntvct_el0$/i,
    // Loads and stores with an order of their own are barriers too.
    barrier:
      /^(dmb|dsb|isb|sb$|ldapu?r|ldar|ldax|ldlar|stlr|stlx|stlur|cas|swp|ld(add|clr|set|eor))/,
    division: /^[us]div |^fdiv |div[dtmo][if]3/,
    call: /^blr? |^blr?a/,
    leaves: /^(ret|brk|udf)/,
    jump: /^b (\S+)/,
    branch: /^(?:b\.\w+|cbn?z \w+,|tbn?z \w+, #\d+,) (\S+)/,
    // Writes the result of a function that returns a double.
    answer: /^(fmov|ldr|mov|movi) [dv]0\b/,
    equal: /^b\.eq /,
    unequal: /^b\.ne /,
    load(text) {
      const [, bits, to, base, offset] =
        /^ldu?r ([wx])(\d+|zr), \[(\w+)(?:, #(\d+))?\]$/.exec(text) ?? []
      return to && { width: bits === 'w' ? 4 : 8, offset: Number(offset ?? 0), base, to: `x${to}` }
    },
    copy(text) {
      const [, from, to] = /^mov [wx](\d+), [wx](\d+)$/.exec(text) ?? []
      return to && { from: `x${to}`, to: `x${from}` }
    },
    compare(text) {
      const [, left, right] = /^cmp w(\d+), w(\d+)$/.exec(text) ?? []
      return left && [`x${left}`, `x${right}`]
    },
    samples: {
      barrier: 'dmb ish',
      before: 'isb',
      call: 'bl clock_gettime',
      division: 'udiv x9, x9, x10',
      equal: 'b.eq',
      unequal: 'b.ne',
    },
    isOdd(text) {
      const [, register] = /^tbn?z w(\d+), #0,/.exec(text) ?? []
      return register && `x${register}`
    },
    writes(text) {
      if (/^(cmp|cmn|tst|st|b|cb|tb|dmb|isb|ret)/.test(text)) return []
      const [, first, second] = /^\w+ [wx](\d+)(?:, [wx](\d+))?/.exec(text) ?? []
      return [first, text.startsWith('ldp') ? second : undefined]
        .filter(Boolean)
        .map((n) => `x${n}`)
    },
  },
}
function whole(register) {
  return wholeRegister.get(register) ?? register
}

/** Returns the labels, instructions and fences of an assembly file, by function. */
export function readAssembly(text, architecture) {
  const dialect = dialects[architecture]
  const functions = []
  let current
  for (const line of text.split('\n')) {
    const [, symbol] = /^([\w$.]+):/.exec(line) ?? []
    if (symbol?.startsWith('.Lfunc_end')) current = undefined
    else if (symbol && !symbol.startsWith('.L')) {
      current = { symbol, dialect, lines: [] }
      functions.push(current)
    } else if (symbol) current?.lines.push({ label: symbol })
    else if (current && /^\t/.test(line)) {
      const kept = dialect.keep(line.trim()).replace(dialect.comment, '').replace(/\s+/g, ' ')
      if (kept !== '' && !kept.startsWith('.')) current.lines.push({ text: kept })
    }
  }
  return functions
}

/** Returns the functions that have code. */
export function functionsOf(parts) {
  return parts.filter(({ lines }) => lines.some(({ text }) => text)).map((part) => new Code(part))
}

/** A function. An instruction is named by its position. */
export class Code {
  #part
  #lines
  #positions = new Map()
  #previous

  constructor(part) {
    const { symbol, dialect, lines } = part
    this.#part = part
    this.symbol = symbol
    this.dialect = dialect
    this.#lines = []
    for (const { label, text } of lines) {
      if (label) this.#positions.set(label, this.#lines.length)
      else this.#lines.push(text)
    }
  }

  /** Returns a copy in which `texts` replace `count` instructions at `at`. */
  with(at, count, ...texts) {
    const lines = [...this.#part.lines]
    // Labels are lines too, and are skipped.
    let index = -1
    for (let left = at; left >= 0; left -= 1) {
      do index += 1
      while (lines[index]?.label)
    }
    lines.splice(index, count, ...texts.map((text) => ({ text })))
    return new Code({ ...this.#part, lines })
  }

  get length() {
    return this.#lines.length
  }

  text(at) {
    return this.#lines[at] ?? ''
  }

  /** Returns the positions of the instructions that match. */
  all(pattern) {
    return this.#lines.flatMap((text, at) => (pattern.test(text) ? [at] : []))
  }

  /** Returns the target of a branch at `at`; undefined outside the function. */
  target(at) {
    const { jump, branch } = this.dialect
    const [, label] = jump.exec(this.text(at)) ?? branch.exec(this.text(at)) ?? []
    return this.#positions.get(label)
  }

  next(at) {
    const { jump, branch, leaves } = this.dialect
    const text = this.text(at)
    const taken = this.target(at)
    const jumped = taken === undefined ? [] : [taken]
    if (leaves.test(text)) return []
    if (jump.test(text)) return jumped
    const after = at + 1 < this.length ? [at + 1] : []
    return branch.test(text) ? [...after, ...jumped] : after
  }

  previous(at) {
    if (this.#previous === undefined) {
      this.#previous = this.#lines.map(() => [])
      for (let from = 0; from < this.length; from += 1) {
        for (const to of this.next(from)) this.#previous[to]?.push(from)
      }
    }
    return this.#previous[at]
  }

  /** Returns all positions that `start` reaches on a way without an instruction that `avoids` accepts. */
  reachable(start, avoids = () => false) {
    const seen = new Set()
    const open = [start]
    while (open.length > 0) {
      const at = open.pop()
      if (at === undefined || seen.has(at) || avoids(at)) continue
      seen.add(at)
      open.push(...this.next(at))
    }
    return seen
  }

  /**
   * Returns every way to `end` that begins at `isStart` or at the function's first instruction, as positions in
   * the order of execution. A way goes through a loop once.
   */
  waysTo(end, isStart) {
    const ways = []
    const walk = (at, way) => {
      const more = [at, ...way]
      if (way.length > 0 && isStart(at)) return ways.push(more)
      const before = this.previous(at).filter((from) => !more.includes(from))
      if (at === 0) ways.push(more)
      for (const from of before) walk(from, more)
      if (ways.length > 1000) throw new Error(`${this.symbol}: too many ways`)
    }
    walk(end, [])
    return ways
  }

  /** Returns the number of instructions on the longest way from the first to a return. Infinite with a loop. */
  longestWay() {
    const known = new Map()
    const from = (at) => {
      if (known.has(at)) return known.get(at)
      known.set(at, Number.POSITIVE_INFINITY)
      // A fence without an instruction is not counted.
      const own = this.text(at) === 'fence' ? 0 : 1
      const rest = this.next(at).map(from)
      const isReturn = /^ret/.test(this.text(at))
      const most = isReturn ? 1 : own + Math.max(Number.NEGATIVE_INFINITY, ...rest)
      known.set(at, most)
      return most
    }
    return from(0)
  }

  /** Returns what a callback must not have: calls, divisions, and jumps to anything but the slow path. */
  strays() {
    const { call, division, jump, branch } = this.dialect
    const bad = [...this.all(call), ...this.all(division)].map((at) => `\`${this.text(at)}\``)
    const jumps = [...this.all(jump), ...this.all(branch)]
    const out = jumps.filter((at) => this.target(at) === undefined)
    const elsewhere = out.filter(
      (at) => !/9callbacks(14slow_from_page|17slow_from_counter)/.test(this.text(at)),
    )
    return [...bad, ...elsewhere.map((at) => `\`${this.text(at)}\``)]
  }
}
