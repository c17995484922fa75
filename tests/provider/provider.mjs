// A certified OpenID provider, and a person at a browser of theirs, for the claims: see tests/src/openid.rs.
//
//   node provider.mjs EVENTS_URL
//
// It says on standard output, in one line of JSON, who it is. What it is to do next comes by HTTP under /control/:
//
//   POST /control/login?sub=alice    alice logs in and gives her consent; answered with her access token
//   POST /control/logout?sub=alice   alice logs out, which the provider tells to EVENTS_URL; answered with what that said
//   POST /control/rotate             it has other keys from now on
//   POST /control/sign?typ=…         what is in the body, signed with its present key, as a transmitter of events would

import { createServer } from 'node:http';

import { SignJWT, exportJWK, generateKeyPair } from 'jose';
import Provider from 'oidc-provider';

const [eventsUrl] = process.argv.slice(2);
const RESOURCE = 'https://chat.example.com';
const REDIRECT = 'https://chat.example.com/callback';
const CLIENT = { client_id: 'chat-web', client_secret: 'a secret of the claims alone' };
const PATIENCE_MS = 60_000;

let issuer, provider, signing;
// What came of telling of a logout.
let told = [];

// Sessions outlive keys, so they are kept here; its own memory is each provider's.
const kept = new Map();

class Adapter {
  constructor(model) { this.key = (id) => `${model}:${id}`; }
  async upsert(id, payload) { kept.set(this.key(id), payload); }
  async find(id) { return kept.get(this.key(id)); }
  async findByUid(uid) { return [...kept].find(([key, payload]) => key.startsWith(this.key('')) && payload.uid === uid)?.[1]; }
  async findByUserCode() { return undefined; }
  async consume(id) { kept.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { kept.delete(this.key(id)); }
  async revokeByGrantId(id) {
    for (const [key, payload] of kept) if (payload.grantId === id) kept.delete(key);
  }
}

async function rotate() {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const kid = crypto.randomUUID();
  const { kid: _, ...jwk } = await exportJWK(privateKey);
  signing = { privateKey, publicKey, kid };
  provider = new Provider(issuer, {
    adapter: Adapter,
    jwks: { keys: [{ ...jwk, kid, alg: 'ES256', use: 'sig' }] },
    clients: [{
      ...CLIENT,
      redirect_uris: [REDIRECT],
      id_token_signed_response_alg: 'ES256',
      backchannel_logout_uri: eventsUrl,
      backchannel_logout_session_required: true,
    }],
    cookies: { keys: ['of the claims alone'] },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    features: {
      backchannelLogout: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'chat',
          audience: RESOURCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: 300,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    // It protects others from being called at such addresses; here all of it is on one machine.
    fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
  });
  provider.on('backchannel.success', () => told.push('success'));
  provider.on('backchannel.error', (_ctx, error) => told.push(`${error}`));
}

// Follows redirects as a browser does, with cookies, until one leads to the application.
class Browser {
  #cookies = new Map();

  async open(url, form) {
    for (;;) {
      const response = await fetch(url, {
        redirect: 'manual',
        method: form ? 'POST' : 'GET',
        body: form && new URLSearchParams(form),
        headers: { cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      for (const cookie of response.headers.getSetCookie()) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
        this.#cookies.set(name, value);
      }
      const location = response.headers.get('location');
      if (location === null) return { url, text: await response.text() };
      url = new URL(location, url).href;
      form = undefined;
      if (url.startsWith(REDIRECT)) {
        await response.arrayBuffer();
        return { url, text: '' };
      }
    }
  }
}

const browsers = new Map();

async function login(sub) {
  const browser = browsers.get(sub) ?? new Browser();
  browsers.set(sub, browser);
  const verifier = 'v'.repeat(64);
  const challenge = Buffer.from(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier))).toString('base64url');
  let page = await browser.open(`${issuer}/auth?${new URLSearchParams({
    client_id: CLIENT.client_id,
    redirect_uri: REDIRECT,
    response_type: 'code',
    scope: 'openid chat',
    resource: RESOURCE,
    code_challenge: challenge,
    code_challenge_method: 'S256',
  })}`);
  while (!page.url.startsWith(REDIRECT)) {
    const prompt = /name="prompt" value="(\w+)"/.exec(page.text)?.[1];
    if (prompt === undefined) throw new Error(`no prompt at ${page.url}: ${page.text}`);
    page = await browser.open(page.url, prompt === 'login' ? { prompt, login: sub, password: 'any' } : { prompt });
  }
  const code = new URL(page.url).searchParams.get('code');
  if (code === null) throw new Error(page.url);
  const response = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: REDIRECT, code_verifier: verifier, resource: RESOURCE }),
    headers: { authorization: `Basic ${btoa(`${CLIENT.client_id}:${encodeURIComponent(CLIENT.client_secret).replaceAll('%20', '+')}`)}` },
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const tokens = await response.json();
  if (!response.ok) throw new Error(JSON.stringify(tokens));
  return tokens.access_token;
}

async function logout(sub) {
  const browser = browsers.get(sub);
  told = [];
  const page = await browser.open(`${issuer}/session/end`);
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)[1];
  await browser.open(`${issuer}/session/end/confirm`, { xsrf, logout: 'yes' });
  return told.join('; ');
}

async function sign(typ, claims) {
  return new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: signing.kid, typ }).sign(signing.privateKey);
}

async function control(request, url) {
  const parameter = (name) => url.searchParams.get(name);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  switch (url.pathname) {
    case '/control/login': return login(parameter('sub'));
    case '/control/logout': return logout(parameter('sub'));
    case '/control/rotate': return rotate().then(() => signing.kid);
    case '/control/sign': return sign(parameter('typ'), JSON.parse(Buffer.concat(chunks)));
    default: throw new Error(`nothing is at ${url.pathname}`);
  }
}

const server = createServer((request, response) => {
  const url = new URL(request.url, issuer);
  if (!url.pathname.startsWith('/control/')) return provider.callback()(request, response);
  return control(request, url).then(
    (text) => response.end(text),
    (error) => response.writeHead(500).end(`${error.stack}`),
  );
});
server.listen(0, '127.0.0.1', async () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  await rotate();
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
