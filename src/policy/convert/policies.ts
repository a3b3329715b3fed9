// Every kind of policy to the one form, by the resource's own kind. In: a validated resource. Out: Policy, or null when the
// resource is no policy.
import type { ClusterNetworkPolicy } from '#model/cluster-network-policy.ts';
import type { GlobalNetworkPolicy } from '#model/global-network-policy.ts';
import type { KubernetesNetworkPolicy } from '#model/kubernetes-network-policy.ts';
import type { NetworkPolicy } from '#model/network-policy.ts';
import { kindKey, type Resource } from '#model/resource.ts';
import type { Policy } from '../policy.ts';
import { convertGlobalNetworkPolicy, convertNetworkPolicy } from './calico.ts';
import { convertClusterPolicy, convertKubernetesPolicy } from './kubernetes.ts';

const CONVERT: Readonly<Record<string, (resource: Resource) => Policy>> = {
  NetworkPolicy: (resource) => convertNetworkPolicy(resource as NetworkPolicy),
  StagedNetworkPolicy: (resource) => convertNetworkPolicy(resource as NetworkPolicy),
  GlobalNetworkPolicy: (resource) => convertGlobalNetworkPolicy(resource as GlobalNetworkPolicy),
  StagedGlobalNetworkPolicy: (resource) => convertGlobalNetworkPolicy(resource as GlobalNetworkPolicy),
  'NetworkPolicy.networking.k8s.io': (resource) => convertKubernetesPolicy(resource as KubernetesNetworkPolicy),
  StagedKubernetesNetworkPolicy: (resource) => convertKubernetesPolicy(resource as KubernetesNetworkPolicy),
  'ClusterNetworkPolicy.policy.networking.k8s.io': (resource) => convertClusterPolicy(resource as ClusterNetworkPolicy),
};

/** Store keys (`kindKey`) of the kinds that are policies. */
export const POLICY_KINDS: ReadonlySet<string> = new Set(Object.keys(CONVERT));

export function convertPolicy(resource: Resource): Policy | null {
  const kind = kindKey(resource.apiVersion, resource.kind);
  return Object.hasOwn(CONVERT, kind) ? CONVERT[kind]!(resource) : null;
}
