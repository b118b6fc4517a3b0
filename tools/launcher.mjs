// Writes the launcher into the command's file. A shell runs its second line, and JavaScript ignores it.
//
// Node resets every signal that its parent ignored, as `nohup` and shells do. The shell reads the kernel's mask
// first, and passes it on with its process ID, which `exec` keeps (see ts/cli/signals.ts).

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'

const SHEBANG = '#!/bin/sh\n'

const LAUNCHER = [
  "':' //",
  'while read -r name mask; do [ "$name" = SigIgn: ] && export VMCLOCK_IGNORED_SIGNALS="$$ $mask"; done 2>/dev/null </proc/self/status',
  'exec node "$0" "$@"',
].join('; ')

/** Puts the launcher below the first line of a built command, and makes the file executable. */
export function writeLauncher(file) {
  const text = readFileSync(file, 'utf8')
  if (!text.startsWith(SHEBANG)) throw new Error(`${file} does not begin with ${SHEBANG.trim()}`)
  writeFileSync(file, `${SHEBANG}${LAUNCHER}\n${text.slice(SHEBANG.length)}`)
  chmodSync(file, 0o755)
}
