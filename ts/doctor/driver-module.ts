/** Finds the driver in the kernel's configuration and among its modules. */

import { type Files, shown } from './files'

/** The name of the driver's module. */
export const MODULE = 'ptp_vmclock'
/** The option of the kernel's configuration that builds the driver. */
export const OPTION = 'CONFIG_PTP_1588_CLOCK_VMCLOCK'

/** Returns the value of {@link OPTION}, or undefined if no configuration can be read. */
export function driverOption(files: Files, release: string): 'y' | 'm' | 'n' | undefined {
  const sources = [
    () => files.unzippedLines('/proc/config.gz'),
    () => files.lines(`/boot/config-${release}`),
    () => files.lines(`${modulesDirectory(release)}/config`),
  ]
  for (const source of sources) {
    const lines = source()
    // Other files with lines are not a configuration.
    if (!lines.some((line) => line.startsWith('CONFIG_'))) continue
    const line = lines.find((text) => text.startsWith(`${OPTION}=`))
    const value = line?.slice(OPTION.length + 1, OPTION.length + 2)
    return value === 'y' || value === 'm' ? value : 'n'
  }
  return undefined
}

/** Returns the driver's file as the lists of modules name it, or undefined if they do not. */
export function driverModule(files: Files, release: string): string | undefined {
  const pattern = new RegExp(`^[^:]*/${MODULE}\\.ko[.a-z0-9]*(?=:|$)`)
  for (const list of ['modules.dep', 'modules.builtin']) {
    for (const line of files.lines(`${modulesDirectory(release)}/${list}`)) {
      const [module] = pattern.exec(line) ?? []
      if (module !== undefined) return shown(module)
    }
  }
  return undefined
}

/** Returns true if the list of the kernel's installed modules can be read. */
export function hasModuleList(files: Files, release: string): boolean {
  return files.lines(`${modulesDirectory(release)}/modules.dep`).length > 0
}

/** Returns the settings that prevent loading the module, each with the place where it is made. */
export function loadingHindrances(files: Files): string[] {
  return [...inModprobeFiles(files), ...onCommandLine(files), ...inKernel(files)]
}

// The files of modprobe.d(5).
function inModprobeFiles(files: Files): string[] {
  const roots = ['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib']
  // On most systems /lib is a link to /usr/lib.
  const directories = new Set(roots.map((root) => files.real(`${root}/modprobe.d`)))
  return [...directories].flatMap((directory) =>
    files
      .names(directory)
      .filter((name) => name.endsWith('.conf'))
      .flatMap((name) =>
        files
          .lines(`${directory}/${name}`)
          .filter((line) => /^\s*(blacklist|install)\s+ptp[_-]vmclock(\s|$)/.test(line))
          .map((line) => shown(`${directory}/${name}: ${line.trim()}`)),
      ),
  )
}

function onCommandLine(files: Files): string[] {
  const setting = /^(nomodule|(module_blacklist|modprobe\.blacklist)=(.*,)?ptp[_-]vmclock(,.*)?)$/
  const words = (files.lines('/proc/cmdline')[0] ?? '').split(/\s+/)
  return words
    .filter((word) => setting.test(word))
    .map((word) => shown(`kernel command line: ${word}`))
}

function inKernel(files: Files): string[] {
  const [disabled] = files.lines('/proc/sys/kernel/modules_disabled')
  return disabled === '1' ? ['/proc/sys/kernel/modules_disabled: 1, until the next boot'] : []
}

function modulesDirectory(release: string): string {
  return `/lib/modules/${release}`
}
