// A real browser against the proxy: `node browser.mjs CHROMIUM ORIGIN ORIGIN_OF_HTTP1 PROFILE`. Prints what it found as JSON.
import { createRequire } from "node:module";

const [chromium, base, plain, profile] = process.argv.slice(2);
const { chromium: driver } = createRequire(process.env.NARTHEX_BROWSER_MODULES)("playwright-core");
const browser = await driver.launchPersistentContext(profile, {
  executablePath: chromium,
  headless: true,
  ignoreHTTPSErrors: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
    "--no-proxy-server",
    "--host-resolver-rules=MAP shop.test 127.0.0.1, MAP * ~NOTFOUND",
  ],
});

// In the page: everything that a script of a site would do.
async function checks() {
  const found = {};
  const within = (promise, what) =>
    Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`${what}: no end`)), 15000))]);
  found.page = performance.getEntriesByType("navigation")[0].nextHopProtocol;

  const many = await Promise.all(
    Array.from({ length: 60 }, async (_, i) => {
      const reply = await fetch(`/n/${i}`, { headers: { "x-id": `id-${i}` } });
      await reply.text();
      return reply.status === 200 && reply.headers.get("x-id") === `id-${i}`;
    }),
  );
  found.fetches = many.filter(Boolean).length;
  const entries = performance.getEntriesByType("resource").filter((e) => e.name.includes("/n/"));
  found.protocols = [...new Set(entries.map((e) => e.nextHopProtocol))];

  const upload = Uint8Array.from({ length: 3_000_000 }, (_, i) => (i * 31) % 251);
  const uploaded = await fetch("/upload", { method: "POST", body: upload });
  found.upload = uploaded.status;
  await uploaded.text();

  // The second event is only sent when the first has been read here.
  found.events = await within(
    new Promise((done, no) => {
      const source = new EventSource("/events");
      const events = [];
      source.onerror = () => no(new Error("the event stream broke"));
      source.onmessage = (event) => {
        events.push(event.data);
        if (events.length === 1) fetch("/first-event-is-here").then((r) => r.text());
        if (events.length === 2) {
          source.close();
          done(events);
        }
      };
    }),
    "events",
  );

  const socket = (url) =>
    within(
      new Promise((done, no) => {
        const socket = new WebSocket(url);
        const said = ["hello", "x".repeat(200_000), "\u00fc\u2603"];
        const heard = [];
        socket.onerror = () => no(new Error(`${url} failed`));
        socket.onopen = () => said.forEach((text) => socket.send(text));
        socket.onmessage = (event) => {
          heard.push(event.data);
          if (heard.length === said.length) socket.close(1000, "done");
        };
        socket.onclose = (event) =>
          done({ code: event.code, echoed: said.every((text, i) => heard[i] === text) });
      }),
      url,
    );
  found.socket = await socket(`wss://${location.host}/ws`);
  found.socketOfHttp1 = await socket(`${window.plainOrigin.replace("https", "wss")}/ws`);

  // A call by gRPC-Web: one message there, messages and trailers back.
  const call = async (method, message, text) => {
    const frame = new Uint8Array(5 + message.length);
    new DataView(frame.buffer).setUint32(1, message.length);
    frame.set(message, 5);
    const type = text ? "application/grpc-web-text" : "application/grpc-web+proto";
    const reply = await fetch(`/t.T/${method}`, {
      method: "POST",
      headers: { "content-type": type, accept: type, "x-grpc-web": "1" },
      body: text ? btoa(String.fromCharCode(...frame)) : frame,
    });
    let bytes = new Uint8Array(await reply.arrayBuffer());
    if (text) {
      const groups = new TextDecoder().decode(bytes).match(/.{4}/g) ?? [];
      bytes = Uint8Array.from(groups.map(atob).join(""), (c) => c.charCodeAt(0));
    }
    const result = { status: reply.status, type: reply.headers.get("content-type"), messages: [] };
    for (let at = 0; at < bytes.length; ) {
      const length = new DataView(bytes.buffer, at).getUint32(1);
      const content = new TextDecoder().decode(bytes.subarray(at + 5, at + 5 + length));
      if (bytes[at] === 0x80) result.trailers = content;
      else result.messages.push(content);
      at += 5 + length;
    }
    result.head = reply.headers.get("grpc-status");
    return result;
  };
  const encode = (text) => new TextEncoder().encode(text);
  found.unary = await call("Unary", encode("hello"), false);
  found.unaryText = await call("Unary", encode("hello"), true);
  found.stream = await call("ServerStream", encode("5"), true);
  found.failed = await call("Fail", encode(""), false);
  return found;
}

try {
  const page = browser.pages()[0] ?? (await browser.newPage());
  await page.goto(`${base}/`, { waitUntil: "load", timeout: 30000 });
  await page.evaluate((plain) => (window.plainOrigin = plain), plain);
  const found = await page.evaluate(checks);
  found.title = await page.title();
  found.version = browser.browser()?.version() ?? "";
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
