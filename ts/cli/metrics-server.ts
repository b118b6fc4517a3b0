/** Serves metrics over HTTP, on a loopback address only. */

import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, BlockList, isIPv6 } from 'node:net'
import { InvalidArgumentError } from 'commander'

/** A loopback address and a port. */
export interface ListenAddress {
  readonly host: string
  readonly port: number
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/** Parses `[HOST:]PORT`. The host is a loopback address, and 127.0.0.1 if it is left out. */
export function listenAddress(text: string): ListenAddress {
  const [, named = '127.0.0.1', digits = ''] = /^(?:(.+):)?(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === '' || port > 65_535) {
    throw new InvalidArgumentError('Give a port from 0 to 65535, such as 9464 or 127.0.0.1:9464.')
  }
  // The system's own table of hosts may lead elsewhere.
  const host = named === 'localhost' ? '127.0.0.1' : named.replace(/^\[(.*)\]$/, '$1')
  if (!isLoopback(host)) {
    throw new InvalidArgumentError(
      'Give a loopback address: 127.0.0.1, [::1] or localhost. For other machines use --file with node_exporter.',
    )
  }
  return { host, port }
}

function isLoopback(host: string): boolean {
  return LOOPBACK.check(host, isIPv6(host) ? 'ipv6' : 'ipv4')
}

/** The metrics of each scrape. */
export interface Scraped {
  readonly contentType: string
  text(): string
}

/** A server that gives metrics at `/metrics`. */
export class MetricsServer {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  /** Begins to listen. */
  static async listen({ host, port }: ListenAddress, scraped: Scraped): Promise<MetricsServer> {
    const server = createServer((request, response) => answer(request, response, scraped))
    server.listen(port, host)
    await once(server, 'listening')
    return new MetricsServer(server)
  }

  /** The URL of the metrics. */
  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo
    return `http://${isIPv6(address) ? `[${address}]` : address}:${port}/metrics`
  }

  /** Serves until the signal is aborted. */
  async serve(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await once(signal, 'abort')
    this.#server.close()
    this.#server.closeAllConnections()
    await once(this.#server, 'close')
  }
}

function answer(request: IncomingMessage, response: ServerResponse, scraped: Scraped): void {
  const [path] = (request.url ?? '').split('?', 1)
  if (path !== '/metrics') {
    response.writeHead(404, PLAIN).end('The metrics are at /metrics.\n')
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { ...PLAIN, Allow: 'GET, HEAD' }).end('Use GET.\n')
  } else {
    const body = scraped.text()
    const length = Buffer.byteLength(body)
    response
      .writeHead(200, { 'Content-Type': scraped.contentType, 'Content-Length': length })
      .end(body)
  }
}

const PLAIN = { 'Content-Type': 'text/plain; charset=utf-8' }
