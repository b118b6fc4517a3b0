// Serves a registry of npm packages on this machine's loopback, from memory. npm can publish to it and
// install from it. It asks no other registry for packages that it lacks, and has no users and no search.

import { createServer } from 'node:http'

/**
 * Starts a registry on a free port. `refuse` gets the name of each package that npm publishes, and returns
 * the status to refuse it with, or undefined. The registry accepts a package for which `hide` is true, but
 * does not serve it.
 */
export async function startRegistry({ refuse = () => undefined, hide = () => false } = {}) {
  const packages = new Map()
  const tarballs = new Map()
  const published = []
  const requests = []

  const routes = {
    async PUT(name, request) {
      const status = refuse(name)
      if (status !== undefined) return { status, body: { error: `${name} is refused` } }
      const document = JSON.parse(await bodyOf(request))
      const known = packages.get(name) ?? { name, 'dist-tags': {}, versions: {} }
      for (const [version, manifest] of Object.entries(document.versions)) {
        if (known.versions[version] !== undefined) {
          return { status: 409, body: { error: `${name}@${version} is there already` } }
        }
        known.versions[version] = manifest
        published.push(`${name}@${version}`)
      }
      Object.assign(known['dist-tags'], document['dist-tags'])
      packages.set(name, known)
      for (const [file, { data }] of Object.entries(document._attachments)) {
        tarballs.set(`${name}/-/${file}`, Buffer.from(data, 'base64'))
      }
      return { status: 201, body: { ok: true } }
    },
    GET(name) {
      if (tarballs.has(name)) return { status: 200, body: tarballs.get(name) }
      const known = packages.get(name)
      if (known === undefined || hide(name))
        return { status: 404, body: { error: `there is no ${name}` } }
      return { status: 200, body: known }
    },
  }

  const server = createServer(async (request, response) => {
    const name = decodeURIComponent(request.url.slice(1).split('?')[0])
    requests.push(`${request.method} ${name}`)
    const unknown = () => ({ status: 405, body: { error: request.method } })
    const { status, body } = await (routes[request.method] ?? unknown)(name, request)
    const isBytes = Buffer.isBuffer(body)
    response.writeHead(status, {
      'content-type': isBytes ? 'application/octet-stream' : 'application/json',
    })
    response.end(isBytes ? body : JSON.stringify(body))
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = `//127.0.0.1:${server.address().port}/`
  return {
    url: `http:${address}`,
    /** npm's options to publish here. The registry accepts any token, and cannot check provenance. */
    publishOptions: [
      `--registry=http:${address}`,
      `--${address}:_authToken=any`,
      '--no-provenance',
    ],
    /** The requests that it got: method and path, in their order. */
    requests,
    /** The packages that were published, as `name@version`, in their order. */
    published,
    close() {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function bodyOf(request) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}
