// A registry of npm packages on this machine's loopback, in memory: what is published to it can be
// installed from it, and it asks no other registry for what it lacks. What a registry does besides
// (users, tags, search) is not here.

import { createServer } from 'node:http'

/**
 * Starts one on a free port. `refuse` is asked for each package that is published: the status to
 * refuse it with, or nothing. What `hide` is true of is taken, and not served.
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
    /** What npm is told to publish here: any token will do, and there is nobody to prove a source to. */
    publishOptions: [
      `--registry=http:${address}`,
      `--${address}:_authToken=any`,
      '--no-provenance',
    ],
    /** What was asked of it. */
    requests,
    /** What was published, in its order. */
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
