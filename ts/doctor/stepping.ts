/** Finds out whether a time daemon of this machine steps the clock after a restore. */

import type { Files } from './files'

/** True if the daemon steps a clock that is far off, whenever that is; undefined if that is not known. */
export type Steps = boolean | undefined

// Debian and its kin, then all others.
const CHRONY_FILES = ['/etc/chrony/chrony.conf', '/etc/chrony.conf']

/**
 * Returns whether chrony steps the clock at any time, by its configuration: `makestep` with a negative limit.
 * With another limit it steps only in its first updates, and without `makestep` never.
 */
export function chronySteps(files: Files): Steps {
  const main = CHRONY_FILES.find((path) => files.has(path))
  if (main === undefined) return undefined
  const lines = directives(files, main)
  // It cannot be read, or what it includes is found by rules of its own.
  if (lines.length === 0 || lines.some(([name]) => name === 'include')) return undefined
  const directories = lines.flatMap(([name, ...paths]) => (name === 'confdir' ? paths : []))
  const included = directories.flatMap((directory) =>
    files
      .names(directory)
      .filter((name) => name.endsWith('.conf'))
      .flatMap((name) => directives(files, `${directory}/${name}`)),
  )
  const limits = [...lines, ...included].flatMap(([name, , limit]) =>
    name === 'makestep' ? [Number(limit)] : [],
  )
  // Two directives that differ: the one that chrony reads last counts, and their order is not known here.
  const answers = new Set(limits.map((limit) => limit < 0))
  return answers.size > 1 ? undefined : answers.has(true)
}

/** Returns the words of each directive in a file of chrony. */
function directives(files: Files, path: string): ReadonlyArray<readonly string[]> {
  return files
    .lines(path)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^[!;#%]/.test(line))
    .map((line) => {
      const [name = '', ...words] = line.split(/\s+/)
      return [name.toLowerCase(), ...words]
    })
}
