/** Detects containers, which see only the devices that were passed to them. */

import { type Finding, ok } from './diagnosis'
import type { Files } from './files'
import type { Scene } from './scene'

/** Returns the kind of container that this process is in, or undefined if it is in none. */
export function container({ files }: Scene): string | undefined {
  const manager = files.line('/run/host/container-manager') ?? files.line('/run/systemd/container')
  if (manager !== undefined && manager !== 'oci') return manager
  // Kubernetes comes first: its containers also have the files of the engine that runs them.
  if (files.has('/var/run/secrets/kubernetes.io') || files.has('/run/secrets/kubernetes.io')) {
    return 'Kubernetes'
  }
  // A virtual machine whose root was made from a container image has these files too.
  if (!hasInitialNamespaces(files)) {
    if (files.has('/run/.containerenv')) return 'podman'
    if (files.has('/.dockerenv')) return 'docker'
  }
  const cgroup = files.lines('/proc/1/cgroup').join('\n')
  const [engine] = /kubepods|docker|libpod|containerd|lxc/.exec(cgroup) ?? []
  if (engine !== undefined) return engine
  // The root of a cgroup namespace has this file, the root of the whole hierarchy does not.
  if (manager !== undefined || files.has('/sys/fs/cgroup/cgroup.type')) return 'of an unknown kind'
  return undefined
}

// The initial namespaces have fixed numbers: PROC_PID_INIT_INO and PROC_CGROUP_INIT_INO
// (`include/linux/proc_ns.h`).
function hasInitialNamespaces(files: Files): boolean {
  return (
    files.linkName('/proc/self/ns/pid') === 'pid:[4026531836]' &&
    files.linkName('/proc/self/ns/cgroup') === 'cgroup:[4026531835]'
  )
}

/** Makes the finding for a kind of container. A container is not a problem. */
export function checkContainer(kind: string | undefined): Finding {
  if (kind === undefined) return ok('not in a container, as far as this process can see')
  return ok(
    `in a container (${kind}): it sees only the devices that were passed to it, and kernel problems are fixed on its host`,
    { container: kind },
  )
}

/** Says where to apply a remedy that needs root or the kernel: not in a container, but on its host. */
export function fixedOnHost(finding: Finding, inContainer: boolean): Finding {
  if (!inContainer || finding.remedy === undefined) return finding
  return { ...finding, remedy: `on the container's host: ${finding.remedy}` }
}

/** Says how to pass a device to a container. */
export function containerRemedy(device: string): string {
  return `start the container with the device: docker run --device ${device}:${device}:r … (podman has the same option; Kubernetes needs a device plugin or a privileged pod). The device's mode on the host applies inside too, and by default only root may read it. If the container's user is not root, install the udev rule on the host first (\`vmclock doctor --udev-rule\`)`
}
