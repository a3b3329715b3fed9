// Parts that the BGP kinds share.
import { OneOf, Text, Type } from './schema.ts';

/** A key of a Kubernetes Secret, as `password` fields of Calico refer to it. */
export const SecretReference = Type.Object({
  secretKeyRef: Type.Optional(
    Type.Object({ name: Type.Optional(Type.String()), key: Type.String(), optional: Type.Optional(Type.Boolean()) }),
  ),
});

export const Family = OneOf(['IPv4', 'IPv6']);

/** RFC 1997 or RFC 8092 as text. */
export const Community = Text('community', 'A community: aa:nn or aa:nn:mm');

/** BGP's default AS number where nothing is configured, as Calico's. */
export const DEFAULT_AS = 64_512;
export const DEFAULT_BGP_PORT = 179;
