/** The O7s HTTP port: health and metrics. Protocols over HTTP will be served here too. */
export type HttpServerOptions = {
  readonly hostname: string;
  readonly port: number;
  /** Whether another process may listen on the port at the same time. */
  readonly reusePort: boolean;
  /** True once the proxy takes no more connections: who spreads load must not send it any. */
  readonly draining: () => boolean;
  /** What works less well than it should, a sentence each. Open sessions go on all the same. */
  readonly troubles: () => Promise<readonly string[]>;
  /** In the Prometheus text format. */
  readonly metrics: () => Promise<string>;
};

export type HttpServer = {
  readonly port: number;
  /** Takes no more connections; those that are open are served. */
  stopAccepting(): void;
  close(): Promise<void>;
};

/** Throws when the port cannot be listened on. */
export function serveHttp(options: HttpServerOptions): HttpServer {
  const server = Bun.serve({
    hostname: options.hostname,
    port: options.port,
    reusePort: options.reusePort,
    maxRequestBodySize: 1_048_576,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      if (request.method !== "GET" && request.method !== "HEAD") {
        return Response.json({ error: "method not allowed" }, { status: 405 });
      }
      if (pathname === "/healthz") {
        // Whoever answers is alive: restarting a proxy does not bring a control plane back, and
        // ends every session.
        const draining = options.draining();
        const health = { ok: !draining, draining, troubles: await options.troubles() };
        return Response.json(health, { status: draining ? 503 : 200 });
      }
      if (pathname === "/metrics") {
        return new Response(await options.metrics(), {
          headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
        });
      }
      return Response.json({ error: "not found" }, { status: 404 });
    },
  });
  return {
    port: server.port ?? options.port,
    // What it resolves to is the end of all its connections, which `close` sees to.
    stopAccepting: () => void server.stop(),
    close: () => server.stop(true),
  };
}
