// An OpenID Connect provider for tests, on loopback: node provider.mjs PORT CLIENT.json USERS.json
// USERS: {name: {password, totp, claims}}. Who gives a password alone is at the level urn:level:pwd (amr pwd), with a one-time
// code at urn:level:mfa (amr pwd, otp, mfa). The protocol is npm's oidc-provider, release 8, which runs on Debian 12's Node.js 18; the
// page of the sign-in and the levels are from here.
import { createServer } from 'node:http';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { Provider, interactionPolicy } from 'oidc-provider';

const [port, client, users] = process.argv.slice(2).map((text) => JSON.parse(text));
const issuer = `http://127.0.0.1:${port}`;
const PWD = 'urn:level:pwd', MFA = 'urn:level:mfa';

// A request for a level that the session here lacks asks anew.
const { Check, base } = interactionPolicy;
const policy = base();
policy.remove('consent');
const wanted = (oidc) => oidc.params.acr_values?.split(' ') ?? [];
policy.get('login').checks.add(new Check('level', 'a higher level is asked for', 'login_required',
  ({ oidc }) => (wanted(oidc).length && !wanted(oidc).includes(oidc.session.acr) && !oidc.result?.login ? Check.REQUEST_PROMPT : Check.NO_NEED_TO_PROMPT)));

const html = (body) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>Provider</title><link rel="icon" href="data:,"><h1>Provider</h1>${body}</html>`;
const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
const provider = new Provider(issuer, {
  clients: [client],
  jwks: { keys: [{ ...jwk, use: 'sig', alg: 'ES256', kid: 'k1' }] },
  acrValues: [PWD, MFA],
  claims: { openid: ['sub', 'acr', 'amr', 'sid'], acr: null, amr: null, sid: null, auth_time: null, email: ['email', 'email_verified'] },
  scopes: ['openid', 'email'],
  pkce: { required: () => true },
  cookies: { keys: [jwk.d] },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: {
      logoutSource: (ctx, form) => { ctx.body = html(`${form}<button form="op.logoutForm" name="logout" value="yes">Sign out</button>`); },
      postLogoutSuccessSource: (ctx) => { ctx.body = html('Signed out'); },
    },
  },
  interactions: { policy, url: (ctx, i) => `/interaction/${i.uid}` },
  findAccount: (ctx, id) => users[id] && { accountId: id, claims: () => ({ sub: id, ...users[id].claims }) },
  loadExistingGrant: async ({ oidc }) => { // consent is given ahead
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope('openid email');
    await grant.save();
    return grant;
  },
});

const totp = (secret, time) => {
  const bits = [...secret].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(time / 30)));
  const mac = createHmac('sha1', Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))).update(counter).digest();
  return String((mac.readUInt32BE(mac[19] & 15) & 0x7fffffff) % 1000000).padStart(6, '0');
};
const form = (uid, problem) => html(`<p id="problem">${problem}</p><form method="post" action="/interaction/${uid}">
<input id="username" name="username" autocomplete="username">
<input id="password" name="password" type="password" autocomplete="current-password"> <input id="code" name="code" autocomplete="one-time-code"> <button>Sign in</button>
<a id="cancel" href="/interaction/${uid}/cancel">Cancel</a></form>`);

const app = provider.callback();
const server = createServer(async (req, res) => {
  const [, uid, cancel] = /^\/interaction\/([\w-]+)(\/cancel)?$/.exec(req.url) ?? [];
  if (!uid) return app(req, res);
  const page = (problem) => { res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }); res.end(form(uid, problem)); };
  try {
    await provider.interactionDetails(req, res);
    if (cancel) return await provider.interactionFinished(req, res, { error: 'access_denied' }, { mergeWithLastSubmission: false });
    if (req.method !== 'POST') return page('');
    let body = '';
    for await (const chunk of req) body += chunk;
    const fields = new URLSearchParams(body), user = users[fields.get('username')], now = Math.floor(Date.now() / 1000);
    if (!user || user.password !== fields.get('password')) return page('wrong user or password');
    const code = fields.get('code');
    if (code && ![-30, 0, 30].some((d) => totp(user.totp, now + d) === code)) return page('wrong code');
    const login = { accountId: fields.get('username'), acr: code ? MFA : PWD, amr: code ? ['pwd', 'otp', 'mfa'] : ['pwd'], ts: now };
    return await provider.interactionFinished(req, res, { login }, { mergeWithLastSubmission: false });
  } catch (e) {
    console.error(e);
    page('error');
  }
});
provider.on('server_error', (ctx, e) => console.error('server error:', e));
for (const name of ['authorization.error', 'grant.error', 'end_session.error', 'backchannel.error']) provider.on(name, (ctx, e) => console.error(name, e?.message, e?.error_description ?? e?.cause ?? ''));
server.listen(port, '127.0.0.1', () => console.log('ready'));
