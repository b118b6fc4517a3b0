/** Is this process in a container? Devices have to be handed to one. */

import type { Finding } from './diagnosis'
import type { Files } from './files'
import type { Scene } from './scene'

/** Which kind of container this process is in; undefined where it is in none. */
export function container({ files }: Scene): string | undefined {
  const named = files.line('/run/host/container-manager') ?? files.line('/run/systemd/container')
  if (named !== undefined && named !== 'oci') return named
  // Kubernetes first: what it starts has the files of the engine underneath as well.
  if (files.has('/var/run/secrets/kubernetes.io') || files.has('/run/secrets/kubernetes.io')) {
    return 'Kubernetes'
  }
  // A virtual machine whose root was made of a container's image has these marks, too.
  if (!isOfMachine(files)) {
    if (files.has('/run/.containerenv')) return 'podman'
    if (files.has('/.dockerenv')) return 'docker'
  }
  const cgroup = files.lines('/proc/1/cgroup').join('\n')
  const [engine] = /kubepods|docker|libpod|containerd|lxc/.exec(cgroup) ?? []
  if (engine !== undefined) return engine
  // The root of a cgroup namespace has what the root of all cgroups has not.
  if (named !== undefined || files.has('/sys/fs/cgroup/cgroup.type')) return 'of an unknown kind'
  return undefined
}

// The kernel gives the namespaces that it starts with fixed numbers: PROC_PID_INIT_INO and
// PROC_CGROUP_INIT_INO (`include/linux/proc_ns.h`).
function isOfMachine(files: Files): boolean {
  return (
    files.linkName('/proc/self/ns/pid') === 'pid:[4026531836]' &&
    files.linkName('/proc/self/ns/cgroup') === 'cgroup:[4026531835]'
  )
}

/** The finding. To be in a container is nothing wrong. */
export function checkContainer(kind: string | undefined): Finding {
  if (kind === undefined)
    return { state: 'ok', finding: 'not in a container, as far as one can see' }
  return {
    state: 'ok',
    finding: `in a container (${kind}): it sees only the devices that it was given, and its kernel is to be mended on its host`,
    details: { container: kind },
  }
}

/** A finding whose remedy needs the machine's root and kernel: from a container it is out of reach. */
export function mendedOnHost(finding: Finding, inContainer: boolean): Finding {
  if (!inContainer || finding.remedy === undefined) return finding
  return { ...finding, remedy: `on the container's host: ${finding.remedy}` }
}

/** How to hand a device to a container. */
export function containerRemedy(device: string): string {
  return `start the container with the device: docker run --device ${device}:${device}:r … (podman takes the same words; Kubernetes needs a device plugin or a privileged pod). The mode that the device has on the host counts inside, too, and it is root's alone by default: for a container whose user is not root, install the udev rule on the host first (\`vmclock doctor --udev-rule\`)`
}
