/**
 * The certificate that clients see: the operator's own, or a self-signed one that is made at the
 * first start.
 */
import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generate } from "selfsigned";

export type Certificate = {
  readonly key: string;
  readonly cert: string;
  readonly certificateHash: Uint8Array;
};

const VALID_DAYS = 3_650;
const DAY_MS = 86_400_000;

/**
 * Reads the operator's certificate chain and key. Throws with the reason when either is unusable.
 */
export function loadCertificate(certPath: string, keyPath: string): Certificate {
  return certificateOf(readFileSync(keyPath, "utf8"), readFileSync(certPath, "utf8"));
}

/** The self-signed certificate in `directory`, made there if there is none yet. */
export async function ensureSelfSignedCertificate(directory: string): Promise<Certificate> {
  const certPath = join(directory, "server.crt");
  const keyPath = join(directory, "server.key");
  if (!existsSync(certPath) || !existsSync(keyPath)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const made = await generate([{ name: "commonName", value: "Ogel Cloud O7s" }], {
      keyType: "ec",
      curve: "P-256",
      algorithm: "sha256",
      notAfterDate: new Date(Date.now() + VALID_DAYS * DAY_MS),
      extensions: [
        { name: "basicConstraints", cA: false },
        {
          name: "subjectAltName",
          altNames: [
            { type: 2, value: "localhost" },
            { type: 7, ip: "127.0.0.1" },
            { type: 7, ip: "::1" },
          ],
        },
      ],
    });
    writeWhole(keyPath, made.private, 0o600);
    writeWhole(certPath, made.cert, 0o644);
  }
  return loadCertificate(certPath, keyPath);
}

/** A reader sees the whole file or none. */
function writeWhole(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
}

function certificateOf(key: string, cert: string): Certificate {
  const leaf = new X509Certificate(cert);
  // RFC 5929 section 4.1: the hash of the certificate's signature, but SHA-256 in place of MD5 and
  // SHA-1.
  const signature = leaf.signatureAlgorithm?.toLowerCase() ?? "";
  const hash = /sha(384|512)/.exec(signature)?.[0] ?? "sha256";
  return { key, cert, certificateHash: createHash(hash).update(leaf.raw).digest() };
}
